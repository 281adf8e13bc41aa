// Storage is a program on Podman's own library, in the version that fastpull has: Debian's
// Podman has an older one. It is called as podman is, with --root and --runroot, a command, and
// its argument:
//
//	check       prints all that is wrong with the store, a line for each
//	put BLOB    adds the file BLOB as a layer, as podman pull does
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"go.podman.io/storage"
	"go.podman.io/storage/pkg/reexec"
)

func main() {
	if reexec.Init() { // the library runs itself, to extract a layer
		return
	}
	var o storage.StoreOptions
	flag.StringVar(&o.GraphRoot, "root", "", "")
	flag.StringVar(&o.RunRoot, "runroot", "", "")
	flag.Parse()
	if err := run(o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(o storage.StoreOptions, args []string) error {
	o.GraphDriverName, o.GraphDriverOptions = "overlay", []string{"overlay.skip_mount_home=true"}
	s, err := storage.GetStore(o)
	if err != nil {
		return err
	}
	defer s.Free()
	switch {
	case len(args) == 1 && args[0] == "check":
		return check(s)
	case len(args) == 2 && args[0] == "put":
		return put(s, args[1])
	}
	return fmt.Errorf("no such command: %q", args)
}

// check prints what the library finds. A layer of no image is a finding however new it is.
func check(s storage.Store) error {
	how := storage.CheckEverything()
	how.LayerUnreferencedMaximumAge = new(time.Duration)
	report, err := s.Check(how)
	if err != nil {
		return err
	}
	var lines []string
	for _, of := range []map[string][]error{report.Layers, report.ROLayers, report.Images, report.ROImages, report.Containers} {
		for id, errs := range of {
			for _, err := range errs {
				lines = append(lines, fmt.Sprintf("%.12s: %v", id, err))
			}
		}
	}
	slices.Sort(lines)
	for _, line := range slices.Compact(lines) {
		fmt.Println(line)
	}
	return nil
}

func put(s storage.Store, blob string) error {
	f, err := os.Open(blob)
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, err = s.PutLayer("", "", nil, "", false, nil, f)
	return err
}
