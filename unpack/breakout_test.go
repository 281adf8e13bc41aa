package unpack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// hostile is a layer that tries to get out of its root, to change what is not
// its own, or to take more than it should. The tables are one for each project
// whose cases they are; docs/hostile-images.md counts them.
//
// Names and targets that begin with out mean the directory around the root.
type hostile struct {
	from   string // the project; "" is what hostileCases says for the table
	name   string // as the project calls it, where it has a name
	guards string // what it guards against
	differ string // why fastpull does something else than the project
	also   string // where else the very same layer is a case

	below [][]entry // layers below it, if the case has any
	layer []entry
	raw   []byte // the layer's tar, for what archive/tar does not write
	nodev bool   // on a file system whose devices are dead

	refuse string   // a part of the error, or
	want   []string // the tree of the layer by itself, and
	merged []string // what it is together with the layers below
}

// out stands for the directory that the root is in.
const out = "/OUT"

// What stands in many trees, beside dir755, whiteout and opaque.
const (
	emptyFile = `file 0644 0:0 ""`
	linkTo    = "symlink 0777 0:0 -> "
)

// up leads above every root.
var up = strings.Repeat("../", 30)

// hostileCases are all the cases there are.
func hostileCases() (all []hostile) {
	for _, table := range []struct {
		from  string
		cases []hostile
	}{
		{"fastpull", ownCases}, {"containerd", containerdCases}, {"moby/go-archive", mobyCases}, {"umoci", umociCases}, {"", otherCases},
	} {
		for _, tc := range table.cases {
			if table.from != "" {
				tc.from = table.from
			}
			all = append(all, tc)
		}
	}
	return all
}

// TestUnracedBreakouts runs every case: with tar-split and without, for overlayfs, for
// fuse-overlayfs, and merged into a directory in which symlinks lie in wait. Some are good layers,
// extracted inside; some are refused; none touches what is outside.
func TestUnracedBreakouts(t *testing.T) {
	need.NoDetector(t)
	need.Time(t, "hundreds of layers")
	seen := make(map[string]bool)
	for _, tc := range hostileCases() {
		if id := tc.from + " " + tc.name; tc.guards == "" || seen[id] {
			t.Fatalf("the case %q has no reason, or is there twice", id)
		} else {
			seen[id] = true
		}
		t.Run(tc.from+"/"+tc.name, func(t *testing.T) {
			tc.overlay(t)
			if tc.refuse == "" {
				tc.names(t)
				tc.merge(t)
			}
			if t.Failed() {
				t.Logf("guards against: %s; %s", tc.guards, tc.differ)
			}
		})
	}
}

// overlay extracts the layer for a store and for containerd, and looks at every file of it by the
// names that the tar has, as Docker will by tar-split.
func (tc hostile) overlay(t *testing.T) {
	for _, o := range []ExtractOptions{
		{Whiteouts: whiteout.Overlay{}}, {Whiteouts: whiteout.Overlay{}, TarSplit: io.Discard},
		{Whiteouts: new(whiteout.Inheriting)}, // for containerd
	} {
		outside, root := tc.prison(t)
		err := unharmed(t, outside, "root", func() error {
			_, err := extractRaw(t, tc.tar(t, outside), root, o)
			return err
		})
		if o.TarSplit != nil && repeats(tc.layer) && err != nil && strings.Contains(err.Error(), "twice") {
			continue // tar-split has no words for it
		}
		if tc.refuse != "" {
			refused(t, err, tc.refuse)
			continue
		}
		if err != nil || o.TarSplit != nil && repeats(tc.layer) {
			t.Fatalf("extracted with the error %v", err)
		}
		looksLike(t, root, within(outside, tc.want)...)
		if err := unharmed(t, outside, "", func() error { return tc.read(outside, root) }); err != nil {
			t.Error(err)
		}
	}
}

// names extracts the layer with deletions as names, for Podman with fuse-overlayfs.
func (tc hostile) names(t *testing.T) {
	outside, root := tc.prison(t)
	if err := unharmed(t, outside, "root", func() error { return named(t, tc.tar(t, outside), root) }); err != nil {
		t.Errorf("with deletions as names: %v", err)
	}
}

// read opens what the entries and links of the layer name.
func (tc hostile) read(outside, root string) error {
	files, err := OpenFiles(root)
	if err != nil {
		return err
	}
	defer files.Close()
	for _, e := range put(outside, tc.layer) {
		for _, name := range []string{e.name, e.link} {
			f, err := files.Get(name)
			if err != nil {
				continue
			}
			b, err := io.ReadAll(f)
			f.Close()
			if err != nil || bytes.Contains(b, []byte(secret)) {
				return fmt.Errorf("%q reads %q, %v", name, b, err)
			}
		}
	}
	return nil
}

// merge puts the layer over others: those of the case, and two that have a
// symlink out of the root in the place of all that the layer names, at its first
// component and at its last. What comes of it is what overlayfs shows.
func (tc hostile) merge(t *testing.T) {
	stacks := [][][]entry{{trapFirst(tc.layer)}, {trapLast(tc.layer)}}
	if tc.below != nil {
		stacks = append(stacks, tc.below)
	}
	for i, below := range stacks {
		outside, root := tc.prison(t)
		work := t.TempDir()
		lowers := []string{filepath.Join(work, "nothing")}
		for j, entries := range append(below[:len(below):len(below)], nil) {
			raw := makeTar(t, put(outside, entries)...)
			if j == len(below) {
				raw = tc.tar(t, outside)
				if err := tc.inherit(t, outside, raw, lowers); err != nil {
					t.Fatalf("for containerd, over %d: %v", i, err)
				}
			}
			layer, flat := filepath.Join(outside, "layer"), filepath.Join(work, fmt.Sprint(j))
			for _, dir := range []string{layer, flat, lowers[0]} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := extractRaw(t, raw, flat, ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
				t.Fatal(err)
			}
			lowers = slices.Insert(lowers, 0, flat)
			var del whiteout.Deletions
			err := unharmed(t, outside, "layer", func() error {
				_, err := extractRaw(t, raw, layer, ExtractOptions{Whiteouts: &del})
				return err
			})
			if err == nil {
				err = unharmed(t, outside, "layer root", func() error { return whiteout.Merge(t.Context(), root, layer, &del) })
			}
			if err != nil {
				t.Fatalf("over %d, layer %d: %v", i, j, err)
			}
			if err := os.RemoveAll(layer); err != nil {
				t.Fatal(err)
			}
		}
		got := snapshot(t, root)
		if os.Getenv(anotherWay) == "" { // to look once is enough
			sameTree(t, fmt.Sprintf("merged over %d", i), got, overlayView(t, lowers...))
		}
		if i == 2 {
			looksLike(t, root, within(outside, tc.merged)...)
		}
	}
}

// inherit extracts the layer as for containerd: its implied directories get the owners and
// modes of those in lowers, which have symlinks out of the root.
func (tc hostile) inherit(t *testing.T, outside string, raw []byte, lowers []string) error {
	t.Helper()
	layer := filepath.Join(outside, "layer")
	if err := os.Mkdir(layer, 0o755); err != nil {
		return err
	}
	var form whiteout.Inheriting
	err := unharmed(t, outside, "layer", func() error {
		_, err := extractRaw(t, raw, layer, ExtractOptions{Whiteouts: &form})
		if err != nil {
			return err
		}
		return form.Inherit(layer, lowers)
	})
	return errors.Join(err, os.RemoveAll(layer))
}

// prison is a new one, of the case's kind.
func (tc hostile) prison(t *testing.T) (outside, root string) {
	t.Helper()
	dir := t.TempDir()
	if tc.nodev {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV, "size=1m"); err != nil {
			t.Fatalf("mount tmpfs: %v", err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
	}
	return prisonIn(t, dir)
}

func (tc hostile) tar(t testing.TB, outside string) []byte {
	if tc.raw != nil {
		return tc.raw
	}
	return makeTar(t, put(outside, tc.layer)...)
}
