package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// A report is to stay small: with more lost records than this a root is not worth its repair, and of what was removed no more
// names are told.
const maxDangling, maxTold = 1000, 500

func check(root string, repair bool) (Report, error) {
	report := Report{Databases: []Database{}, Removed: []string{}, Dangling: []string{}, Broken: []string{}}
	databases, err := findDatabases(root)
	if err != nil {
		return report, err
	}
	report.Databases = append(report.Databases, databases...)
	for _, database := range databases {
		if database.State != "torn" {
			continue
		}
		if slices.Contains(essential, database.Path) {
			report.Broken = append(report.Broken, fmt.Sprintf("%s is torn: %s", database.Path, database.Detail))
		} else {
			report.Removed = append(report.Removed, database.Path)
		}
	}
	if len(report.Broken) > 0 {
		report.Removed = []string{}
		return report, nil
	}
	if err := checkRecords(root, &report); err != nil {
		return report, err
	}
	if len(report.Dangling) > maxDangling {
		report.Broken = append(report.Broken, fmt.Sprintf("the files of %d records are missing", len(report.Dangling)))
	}
	if len(report.Broken) > 0 {
		report.Dangling, report.Removed = []string{}, []string{}
	}
	if repair {
		for _, path := range report.Removed {
			if err := os.RemoveAll(filepath.Join(root, path)); err != nil {
				return report, err
			}
		}
	}
	report.Removed = report.Removed[:min(len(report.Removed), maxTold)]
	return report, nil
}

// checkRecords compares what the databases name with what is there.
func checkRecords(root string, report *Report) error {
	overlay := filepath.Join(root, "runc-overlayfs")
	snapshots, err := readSnapshots(filepath.Join(overlay, "snapshots/metadata.db"))
	if err != nil {
		return err
	}
	meta, err := readMetadata(filepath.Join(overlay, "containerdmeta.db"))
	if err != nil {
		return err
	}
	records, err := countRecords(filepath.Join(overlay, "metadata_v2.db"))
	if err != nil {
		return err
	}
	// BuildKit makes its databases one by one when it first needs them, so that one may be missing beside another; but not
	// beside one that relies on it.
	if len(snapshots) == 0 && len(meta.snapshots) > 0 {
		report.Broken = append(report.Broken, "snapshots/metadata.db names none of the snapshots there are records of")
	}
	if len(meta.snapshots)+len(meta.blobs) == 0 && records > 0 && len(snapshots) > 0 {
		report.Broken = append(report.Broken, "containerdmeta.db names nothing of what there are records of")
	}
	dangling := map[string]bool{}
	lost := map[string]bool{}
	ids := map[string]bool{}
	for key, found := range snapshots {
		ids[found.id] = true
		info, err := os.Stat(filepath.Join(overlay, "snapshots/snapshots", found.id, "fs"))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		if err != nil || !info.IsDir() {
			lost[key] = true
		}
	}
	spread(snapshots, lost)
	for key := range lost {
		dangling[recordID(key)] = true
	}
	for name, key := range meta.snapshots {
		if _, there := snapshots[key]; !there {
			dangling[recordID(name)] = true
		}
	}
	var torn []string
	for digest, size := range meta.blobs {
		whole, err := blobIsWhole(root, digest, size)
		if err != nil {
			return err
		}
		if !whole {
			torn = append(torn, digest)
		}
	}
	named, err := recordsWith(filepath.Join(overlay, "metadata_v2.db"), torn)
	if err != nil {
		return err
	}
	for _, id := range named {
		dangling[id] = true
	}
	report.Dangling = slices.AppendSeq(report.Dangling, maps.Keys(dangling))
	slices.Sort(report.Dangling)
	return findOrphans(root, ids, report)
}

// spread adds to the lost snapshots all that stand on one.
func spread(snapshots map[string]snapshot, lost map[string]bool) {
	for grown := len(lost) > 0; grown; {
		grown = false
		for key, found := range snapshots {
			if !lost[key] && lost[found.parent] {
				lost[key] = true
				grown = true
			}
		}
	}
}

// findOrphans adds the snapshot folders that no record names, unfinished ones among them.
func findOrphans(root string, ids map[string]bool, report *Report) error {
	const dir = "runc-overlayfs/snapshots/snapshots"
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, entry := range entries {
		if !ids[entry.Name()] {
			report.Removed = append(report.Removed, filepath.Join(dir, entry.Name()))
		}
	}
	return nil
}
