// Command rootcheck looks over a BuildKit root that nobody uses, after its machine was cut off, and says as JSON what is
// wrong with it. With -repair it also removes what can be removed without loss: databases that BuildKit makes anew, and
// snapshot folders that no record names. It never makes anything that is missing: an empty layer would be served as if it
// were whole.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
)

// Report is what was found. Paths are relative to the root.
type Report struct {
	// Databases that were looked at.
	Databases []Database `json:"databases"`
	// Databases and snapshot folders that were removed, or would be with -repair.
	Removed []string `json:"removed"`
	// IDs of BuildKit's cache records whose files are missing, and of the records that stand on them. To be pruned by
	// BuildKit itself.
	Dangling []string `json:"dangling"`
	// Why the root cannot be used at all; empty when it can.
	Broken []string `json:"broken"`
}

func main() {
	repair := flag.Bool("repair", false, "remove torn databases that can be made anew, and orphaned snapshot folders")
	one := flag.Bool("database", false, "check one database file; used by rootcheck itself")
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: rootcheck [-repair] ROOT"); flag.PrintDefaults() }
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if *one {
		if err := checkDatabase(flag.Arg(0)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	report, err := check(flag.Arg(0), *repair)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "rootcheck:", err)
		os.Exit(1)
	}
}
