package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// snapshot is a record of containerd's snapshotter (core/snapshots/storage/bolt.go): v1/snapshots/<key>.
type snapshot struct {
	id     string
	parent string
}

func readSnapshots(path string) (map[string]snapshot, error) {
	found := map[string]snapshot{}
	err := view(path, func(tx *bolt.Tx) error {
		return eachBucket(at(tx.Bucket([]byte("v1")), "snapshots"), func(key []byte, b *bolt.Bucket) error {
			id, n := binary.Uvarint(b.Get([]byte("id")))
			if n <= 0 {
				return nil
			}
			found[string(key)] = snapshot{id: strconv.FormatUint(id, 10), parent: string(b.Get([]byte("parent")))}
			return nil
		})
	})
	return found, err
}

// metadata is what containerd's metadata store names (core/metadata/buckets.go): v1/<namespace>/…
type metadata struct {
	// Name in the store to the snapshotter's key.
	snapshots map[string]string
	// Digest to size in bytes.
	blobs map[string]int64
}

func readMetadata(path string) (metadata, error) {
	found := metadata{snapshots: map[string]string{}, blobs: map[string]int64{}}
	err := view(path, func(tx *bolt.Tx) error {
		return eachBucket(tx.Bucket([]byte("v1")), func(_ []byte, namespace *bolt.Bucket) error {
			err := eachBucket(namespace.Bucket([]byte("snapshots")), func(_ []byte, snapshotter *bolt.Bucket) error {
				return eachBucket(snapshotter, func(name []byte, b *bolt.Bucket) error {
					if key := b.Get([]byte("name")); key != nil {
						found.snapshots[string(name)] = string(key)
					}
					return nil
				})
			})
			if err != nil {
				return err
			}
			return eachBucket(at(namespace.Bucket([]byte("content")), "blob"), func(digest []byte, b *bolt.Bucket) error {
				size, n := binary.Varint(b.Get([]byte("size")))
				if n > 0 {
					found.blobs[string(digest)] = size
				}
				return nil
			})
		})
	})
	return found, err
}

// recordsWith gives the IDs of BuildKit's cache records (cache/metadata: _main/<id>/<key>) that name one of the digests.
func recordsWith(path string, digests []string) ([]string, error) {
	var ids []string
	if len(digests) == 0 {
		return nil, nil
	}
	err := view(path, func(tx *bolt.Tx) error {
		return eachBucket(tx.Bucket([]byte("_main")), func(id []byte, record *bolt.Bucket) error {
			named := false
			err := record.ForEach(func(_, value []byte) error {
				for _, digest := range digests {
					named = named || bytes.Contains(value, []byte(digest))
				}
				return nil
			})
			if named {
				ids = append(ids, string(id))
			}
			return err
		})
	})
	return ids, err
}

func countRecords(path string) (int, error) {
	count := 0
	err := view(path, func(tx *bolt.Tx) error {
		return eachBucket(tx.Bucket([]byte("_main")), func([]byte, *bolt.Bucket) error {
			count++
			return nil
		})
	})
	return count, err
}

func blobIsWhole(root, digest string, size int64) (bool, error) {
	algorithm, hex, _ := strings.Cut(digest, ":")
	info, err := os.Stat(filepath.Join(root, "runc-overlayfs/content/blobs", algorithm, hex))
	if os.IsNotExist(err) {
		return false, nil
	}
	return err == nil && info.Size() == size, err
}

// recordID is the last part of a snapshot's key; a view of a record is named after it.
func recordID(key string) string {
	return strings.TrimSuffix(key[strings.LastIndexByte(key, '/')+1:], "-view")
}

func at(b *bolt.Bucket, name string) *bolt.Bucket {
	if b == nil {
		return nil
	}
	return b.Bucket([]byte(name))
}

func eachBucket(b *bolt.Bucket, visit func(name []byte, child *bolt.Bucket) error) error {
	if b == nil {
		return nil
	}
	return b.ForEachBucket(func(name []byte) error { return visit(name, b.Bucket(name)) })
}
