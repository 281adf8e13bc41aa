package unpack

import (
	"archive/tar"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/unpack/whiteout"
)

// named extracts a layer whose deletions become names.
func named(t testing.TB, raw []byte, root string) error {
	t.Helper()
	var del whiteout.Deletions
	if _, err := extractRaw(t, raw, root, ExtractOptions{Whiteouts: &del}); err != nil {
		return err
	}
	fds := openFiles(t)
	if err := del.WriteNames(t.Context(), root); err != nil {
		return fmt.Errorf("write names: %w", err)
	}
	if n := openFiles(t); n != fds {
		t.Errorf("WriteNames left %d descriptors", n-fds)
	}
	return nil
}

// entriesOf returns the entries of a tar of a tree.
func entriesOf(t *testing.T, root string) (list []entry) {
	t.Helper()
	walk(t, root, func(rel string, st *unix.Stat_t) {
		if rel == "." {
			return
		}
		p := filepath.Join(root, rel)
		e := entry{name: rel, mode: int64(st.Mode & 0o7777), uid: int(st.Uid), gid: int(st.Gid), pax: xattrsOf(t, p)}
		var err error
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			e.kind = tar.TypeDir
		case unix.S_IFLNK:
			e.kind, e.pax = tar.TypeSymlink, nil
			e.link, err = os.Readlink(p)
		case unix.S_IFREG:
			var data []byte
			data, err = os.ReadFile(p)
			e.data = string(data)
		default:
			t.Fatalf("%s is a %s", rel, typeOf(st.Mode))
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	})
	return list
}

// TestNames has random layers extracted with deletions as names. A tar of that says the same
// as the layer.
func TestNames(t *testing.T) {
	deletions := 0
	for seed := range uint64(120) {
		r := rand.New(rand.NewPCG(seed, 9))
		layer := randomLayer(r, 1+r.IntN(10))
		if !extractable(t, layer) {
			continue
		}
		want, names, got := t.TempDir(), t.TempDir(), t.TempDir()
		raw := makeTar(t, layer...)
		if _, err := extractRaw(t, raw, want, ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
			t.Fatal(err)
		}
		if err := named(t, raw, names); err != nil {
			t.Fatal(err)
		}
		if _, err := extractRaw(t, makeTar(t, entriesOf(t, names)...), got, ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
			t.Fatal(err)
		}
		g, w := said(t, got), said(t, want)
		for _, n := range w {
			if strings.HasSuffix(n, " deleted") || strings.Contains(n, "overlay.opaque") {
				deletions++
			}
		}
		if !slices.Equal(g, w) {
			t.Errorf("seed %d: by names\n%s\nwant\n%s", seed, strings.Join(g, "\n"), strings.Join(w, "\n"))
			for _, e := range layer {
				t.Logf("%c %s -> %s", max(e.kind, '0'), e.name, e.link)
			}
			return
		}
	}
	if deletions < 100 {
		t.Errorf("only %d deletions", deletions)
	}
}

// said describes a layer, but for times, and the owners of whiteouts, which never show.
func said(t *testing.T, root string) (list []string) {
	t.Helper()
	tree := snapshot(t, root)
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		what := tree[name].what
		if strings.HasPrefix(what, "char ") && strings.HasSuffix(what, " 0:0") {
			what = "deleted"
		}
		list = append(list, name+": "+what)
	}
	return list
}
