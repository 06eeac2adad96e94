package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// The check of one database runs this program again.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "-database" {
		if err := checkDatabase(os.Args[2]); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type record struct {
	key, parent string
	id          uint64
}

// makeRoot makes a root of snapshots as containerd's snapshotter writes them; each has a folder.
func makeRoot(t *testing.T, records ...record) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "runc-overlayfs/snapshots")
	must(t, os.MkdirAll(dir, 0o755))
	db, err := bolt.Open(filepath.Join(dir, "metadata.db"), 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error {
		v1, err := tx.CreateBucketIfNotExists([]byte("v1"))
		must(t, err)
		all, err := v1.CreateBucketIfNotExists([]byte("snapshots"))
		must(t, err)
		for _, r := range records {
			b, err := all.CreateBucket([]byte(r.key))
			must(t, err)
			must(t, b.Put([]byte("id"), binary.AppendUvarint(nil, r.id)))
			must(t, b.Put([]byte("parent"), []byte(r.parent)))
			must(t, os.MkdirAll(snapshotDir(root, r.id)+"/fs", 0o755))
		}
		return nil
	}))
	must(t, db.Close())
	return root
}

func snapshotDir(root string, id uint64) string {
	return filepath.Join(root, "runc-overlayfs/snapshots/snapshots", string(binary.AppendUvarint(nil, '0'+id)))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func checked(t *testing.T, root string) Report {
	t.Helper()
	report, err := check(root, false)
	must(t, err)
	report.Databases = nil
	return report
}

func TestMissing(t *testing.T) {
	root := makeRoot(t, record{"buildkit/1/a", "", 1}, record{"buildkit/2/b", "buildkit/1/a", 2}, record{"buildkit/3/c-view", "", 3})
	if got := checked(t, root); len(got.Dangling)+len(got.Removed)+len(got.Broken) > 0 {
		t.Fatalf("a root in order: %+v", got)
	}
	must(t, os.RemoveAll(snapshotDir(root, 1)))
	must(t, os.RemoveAll(snapshotDir(root, 3)))
	if got, want := checked(t, root).Dangling, []string{"a", "b", "c"}; !reflect.DeepEqual(got, want) {
		t.Fatalf("dangling: %v", got)
	}
}

func TestOrphans(t *testing.T) {
	root := makeRoot(t, record{"buildkit/1/a", "", 1})
	must(t, os.MkdirAll(filepath.Join(root, "runc-overlayfs/snapshots/snapshots/new-77"), 0o755))
	want := []string{"runc-overlayfs/snapshots/snapshots/new-77"}
	if got := checked(t, root).Removed; !reflect.DeepEqual(got, want) {
		t.Fatalf("removed: %v", got)
	}
}

func TestTorn(t *testing.T) {
	root := makeRoot(t, record{"buildkit/1/a", "", 1})
	must(t, os.WriteFile(filepath.Join(root, "cache.db"), make([]byte, 9000), 0o600))
	if got := checked(t, root); !reflect.DeepEqual(got.Removed, []string{"cache.db"}) || len(got.Broken) > 0 {
		t.Fatalf("%+v", got)
	}
	must(t, os.Truncate(filepath.Join(root, "runc-overlayfs/snapshots/metadata.db"), 5000))
	if got := checked(t, root); len(got.Broken) != 1 || len(got.Removed) > 0 {
		t.Fatalf("%+v", got)
	}
}

func TestEmptyRoot(t *testing.T) {
	if got := checked(t, t.TempDir()); len(got.Dangling)+len(got.Removed)+len(got.Broken) > 0 {
		t.Fatalf("%+v", got)
	}
}
