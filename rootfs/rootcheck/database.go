package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Database is one bbolt file and its state: "ok", "torn", or "empty" (made, and nothing written yet).
type Database struct {
	Path   string `json:"path"`
	State  string `json:"state"`
	Detail string `json:"detail,omitempty"`
}

// The databases whose loss leaves the rest without meaning. BuildKit makes the others anew (its step cache, its history).
var essential = []string{
	"runc-overlayfs/containerdmeta.db",
	"runc-overlayfs/metadata_v2.db",
	"runc-overlayfs/snapshots/metadata.db",
}

// Most of a check's words that are kept, in bytes: a torn file can have thousands of faults.
const maxDetail = 400

func findDatabases(root string) ([]Database, error) {
	var found []Database
	for _, dir := range []string{"", "runc-overlayfs", "runc-overlayfs/snapshots"} {
		paths, err := filepath.Glob(filepath.Join(root, dir, "*.db"))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			database, err := inspect(path)
			if err != nil {
				return nil, err
			}
			database.Path = filepath.Join(dir, filepath.Base(path))
			found = append(found, database)
		}
	}
	return found, nil
}

// inspect checks a file in a process of its own: bbolt panics on some torn files, in goroutines that cannot be recovered.
func inspect(path string) (Database, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return Database{}, err
	}
	if !info.Mode().IsRegular() {
		return Database{State: "torn", Detail: "not a plain file"}, nil
	}
	if info.Size() == 0 {
		return Database{State: "empty"}, nil
	}
	self, err := os.Executable()
	if err != nil {
		return Database{}, err
	}
	output, err := exec.Command(self, "-database", path).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return Database{State: "ok"}, nil
	case !errors.As(err, &exit):
		return Database{}, err
	}
	words := strings.TrimSpace(string(output))
	if len(words) > maxDetail {
		words = words[:maxDetail]
	}
	return Database{State: "torn", Detail: words}, nil
}

// checkDatabase reads every page of a database.
func checkDatabase(path string) error {
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: 5 * time.Second})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) error {
		var first error
		count := 0
		for err := range tx.Check() {
			if first == nil {
				first = err
			}
			count++
		}
		if first != nil {
			return fmt.Errorf("%w (%d faults)", first, count)
		}
		return nil
	})
}

// view reads a database that was found in order; one that is empty or not there has nothing.
func view(path string, read func(*bolt.Tx) error) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || (err == nil && info.Size() == 0) {
		return nil
	}
	if err != nil {
		return err
	}
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, Timeout: 5 * time.Second})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(read)
}
