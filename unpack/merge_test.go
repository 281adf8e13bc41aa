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
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/unpack/whiteout"
)

// noting notes which directories are implied.
type noting struct {
	*whiteout.Deletions
	implied map[string]bool
}

func (n noting) Implied(dir string) error {
	n.implied[dir] = true
	return n.Deletions.Implied(dir)
}

func (n noting) Named(dir string) {
	delete(n.implied, dir)
	n.Deletions.Named(dir)
}

// stack extracts layers twice: for overlayfs, which shows them as it does, and
// merged into one directory.
func stack(t *testing.T, layers [][]entry) (shown, merged map[string]node) {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string {
		p := filepath.Join(dir, name)
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	root := in("m")
	implied := make(map[string]bool)
	lowers := []string{in("e1"), in("e0")} // overlayfs wants two at least
	for i, entries := range layers {
		raw := makeTar(t, entries...)
		o, p := in(fmt.Sprint("o", i)), in(fmt.Sprint("p", i))
		if _, err := extractRaw(t, raw, o, ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
			t.Fatal(err)
		}
		lowers = slices.Insert(lowers, 0, o)
		var del whiteout.Deletions
		ofLayer := make(map[string]bool)
		if _, err := extractRaw(t, raw, p, ExtractOptions{Whiteouts: noting{&del, ofLayer}}); err != nil {
			t.Fatal(err)
		}
		maps.Copy(implied, ofLayer)
		fds := openFiles(t)
		if err := whiteout.Merge(t.Context(), root, p, &del); err != nil {
			t.Fatal(err)
		}
		if n := openFiles(t); n != fds {
			t.Fatalf("Merge left %d descriptors", n-fds)
		}
		walk(t, p, func(rel string, st *unix.Stat_t) {
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				t.Errorf("Merge left %s behind", rel)
			}
		})
	}
	shown, merged = overlayView(t, lowers...), snapshot(t, root)
	for name := range implied {
		// Merge knows what the layers below made of it.
		if strings.HasPrefix(shown[name].what, "dir ") && strings.HasPrefix(merged[name].what, "dir ") {
			shown[name] = merged[name]
		}
	}
	return shown, merged
}

// overlayView is what overlayfs shows of directories, the uppermost first.
func overlayView(t *testing.T, lowers ...string) map[string]node {
	t.Helper()
	mnt := t.TempDir()
	plain := strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`) // a test's name is in its directory's
	for i := range lowers {
		lowers[i] = plain.Replace(lowers[i])
	}
	if err := unix.Mount("overlay", mnt, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lowers, ":")); err != nil {
		t.Fatalf("mount overlay: %v", err)
	}
	defer func() {
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Error(err)
		}
	}()
	return snapshot(t, mnt)
}

// randomLayer makes entries of few names, so that they meet.
func randomLayer(r *rand.Rand, n int) (layer []entry) {
	name := func() string {
		parts := make([]string, 1+r.IntN(3))
		for i := range parts {
			parts[i] = string("abc"[r.IntN(3)])
		}
		return strings.Join(parts, "/")
	}
	for i := range n {
		p := name()
		dir, base := filepath.Split(p)
		var e entry
		switch r.IntN(10) {
		case 0, 1, 2:
			e = file(p, fmt.Sprint("content ", r.IntN(1000)))
		case 3, 4:
			e = mode(folder(p), int64(0o700+r.IntN(64)))
		case 5:
			e = symlink(p, []string{"a", "../b", "/c", "none", "/"}[r.IntN(5)])
		case 6, 7:
			e = file(dir+".wh."+base, "")
		case 8:
			e = file(p+"/.wh..wh..opq", "")
		case 9:
			e = xattr(folder(p), "user.x", fmt.Sprint(i))
		}
		e.uid = r.IntN(3)
		layer = append(layer, e)
	}
	return layer
}

// extractable leaves out the layers that a symlink makes impossible to extract: that is for
// TestUnracedBreakouts.
func extractable(t *testing.T, layer []entry) bool {
	t.Helper()
	var del whiteout.Deletions
	_, err := extractRaw(t, makeTar(t, layer...), t.TempDir(), ExtractOptions{Whiteouts: &del})
	return err == nil
}

// What Merge makes of a stack of layers is what overlayfs shows of it.
func TestMergeIsOverlay(t *testing.T) {
	tried := 0
	for seed := uint64(0); tried < 60; seed++ {
		r := rand.New(rand.NewPCG(seed, 3))
		var layers [][]entry
		for range 2 + r.IntN(3) {
			layer := randomLayer(r, 1+r.IntN(8))
			if extractable(t, layer) {
				layers = append(layers, layer)
			}
		}
		if len(layers) < 2 {
			continue
		}
		tried++
		shown, merged := stack(t, layers)
		sameTree(t, fmt.Sprintf("seed %d", seed), merged, shown)
		if t.Failed() {
			for i, layer := range layers {
				for _, e := range layer {
					t.Logf("layer %d: %c %s -> %s", i, max(e.kind, '0'), e.name, e.link)
				}
			}
			return
		}
	}
}

// Cases that chance seldom finds.
func TestMergeCases(t *testing.T) {
	for _, tc := range []struct {
		name   string
		layers [][]entry
		want   []string
	}{
		{"a symlink of a lower layer is replaced and not walked through",
			[][]entry{{folder("d"), file("d/f", "1"), symlink("s", "d")}, {folder("s"), file("s/f", "2")}},
			[]string{"d: " + dir755, `d/f: file 0644 0:0 "1"`, "s: " + dir755, `s/f: file 0644 0:0 "2"`}},
		{"nor by a whiteout", [][]entry{{folder("d"), file("d/f", "1"), symlink("s", "d")}, {file("s/.wh.f", "")}},
			[]string{"d: " + dir755, `d/f: file 0644 0:0 "1"`, "s: " + dir755}},
		{"a whiteout by way of the layer's own symlink", [][]entry{{file("d/f", "1"), file("s/f", "2")}, {symlink("s", "d"), file("s/.wh.f", "")}},
			[]string{"d: " + dir755, "s: symlink 0777 0:0 -> d"}},
		{"opaque by way of the layer's own symlink", [][]entry{{file("d/f", "1")}, {symlink("s", "d"), file("s/.wh..wh..opq", ""), file("d/g", "2")}},
			[]string{"d: " + dir755, `d/g: file 0644 0:0 "2"`, "s: symlink 0777 0:0 -> d"}},
		{"a file replaces a directory that a whiteout is in", [][]entry{{file("usr/lib/x", "1"), file("d/x", "1")}, {file("usr/lib", "mine"), file("usr/lib/.wh.x", ""), file("d/.wh.x", ""), file("d", "mine")}},
			[]string{"usr: " + dir755, `usr/lib: file 0644 0:0 "mine"`, `d: file 0644 0:0 "mine"`}},
		{"a file replaced a directory and a directory it", [][]entry{{file("d/old", "1")}, {file("d", ""), folder("d"), file("d/new", "2")}},
			[]string{"d: " + dir755, `d/new: file 0644 0:0 "2"`}},
		{"a file replaced a directory and an implied one it", [][]entry{{file("a/d/old", "1")}, {file("a/d", ""), file("a/d/new", "2")}},
			[]string{"a: " + dir755, "a/d: " + dir755, `a/d/new: file 0644 0:0 "2"`}},
		{"whiteouts and what comes in their place", [][]entry{{file("x", "1"), file("y/z", "2")}, {file(".wh.x", ""), file("x/y", "3"), file(".wh.y", ""), symlink("y", "x")}},
			[]string{"x: " + dir755, `x/y: file 0644 0:0 "3"`, "y: symlink 0777 0:0 -> x"}},
		{"attributes of the upper directory alone", [][]entry{{xattr(folder("d"), "user.a", "1"), xattr(folder("e"), "user.a", "1")}, {xattr(owned(mode(folder("d"), 0o711), 4, 5), "user.b", "2")}},
			[]string{`d: dir 0711 4:5 user.b="2"`, `e: dir 0755 0:0 user.a="1"`}},
		{"attributes without a value", [][]entry{{folder("d"), xattr(folder("e"), "user.a", "")}, {xattr(folder("d"), "user.a", ""), xattr(folder("e"), "user.b", "")}},
			[]string{`d: dir 0755 0:0 user.a=""`, `e: dir 0755 0:0 user.b=""`}},
		{"an opaque root", [][]entry{{file("old", "1"), file("d/x", "2")}, {file(".wh..wh..opq", ""), file("new", "3"), file(".wh.d", "")}},
			[]string{`old: file 0644 0:0 "1"`, `new: file 0644 0:0 "3"`}},
		{"directories that the layer does not name", [][]entry{
			{mode(folder("tmp"), 0o1777), xattr(owned(mode(folder("tmp/a"), 0o750), 3, 4), "user.a", "1"), mode(folder("b"), 0o700), file("b/x", ""), mode(folder("c"), 0o700), file("c/x", "")},
			{file("tmp/a/f", ""), file("b/.wh.x", ""), file("c/.wh..wh..opq", ""), file("new/f", "")},
		}, []string{"tmp: dir 1777 0:0", `tmp/a: dir 0750 3:4 user.a="1"`, `tmp/a/f: file 0644 0:0 ""`, "b: dir 0700 0:0", "c: dir 0700 0:0", "new: " + dir755, `new/f: file 0644 0:0 ""`}},
		{"directories that the layer names later, or once more", [][]entry{
			{mode(folder("a"), 0o700), mode(folder("b"), 0o700), mode(folder("b/c"), 0o700)},
			{file("a/f", ""), mode(folder("a"), 0o711), mode(folder("b"), 0o711), file("b/c/f", ""), file("b/g", "")},
		}, []string{"a: dir 0711 0:0", `a/f: file 0644 0:0 ""`, "b: dir 0711 0:0", "b/c: dir 0700 0:0", `b/c/f: file 0644 0:0 ""`, `b/g: file 0644 0:0 ""`}},
		{"directories that are new, whatever was there", [][]entry{
			{mode(folder("a"), 0o700), mode(folder("b"), 0o700), mode(folder("c"), 0o700), file("d", "")},
			{file(".wh.a", ""), file("a/f", ""), file("b/f", ""), file(".wh.b", ""), file("c", ""), file("c/f", ""), file("d/f", "")},
		}, []string{"a: " + dir755, `a/f: file 0644 0:0 ""`, "b: " + dir755, `b/f: file 0644 0:0 ""`, "c: " + dir755, `c/f: file 0644 0:0 ""`, "d: " + dir755, `d/f: file 0644 0:0 ""`}},
		{"over several layers, by way of a symlink", [][]entry{
			{mode(folder("v"), 0o1777)}, {file("v/1", "")}, {symlink("s", "v"), file("s/2", "")}, {mode(folder("v"), 0o750)}, {file("v/.wh.1", "")},
		}, []string{"v: dir 0750 0:0", `v/2: file 0644 0:0 ""`, "s: symlink 0777 0:0 -> v"}},
		{"devices and hardlinks", [][]entry{{file("a", "1")}, {device("a", tar.TypeChar, 1, 3), file("d/x", "2"), hardlink("y", "d/x")}},
			[]string{"a: char 0644 0:0 1:3", "d: " + dir755, `d/x: file 0644 0:0 "2" links 2 =d/x`, `y: file 0644 0:0 "2" links 2 =d/x`}},
		{"the whole of a directory with content that is deleted", [][]entry{{file("d/a/b/c", "1"), symlink("d/a/s", "/"), file("e", "2")}, {file(".wh.d", "")}},
			[]string{`e: file 0644 0:0 "2"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			shown, merged := stack(t, tc.layers)
			sameTree(t, "merged", merged, shown)
			want := make(map[string]node)
			for _, line := range tc.want {
				name, what, _ := strings.Cut(line, ": ")
				want[name] = node{what: what}
			}
			sameTree(t, "merged", merged, want)
		})
	}
}

// A directory that both have gets the upper one's time, whatever was moved into
// it; nothing outside of the root is touched.
func TestMergeTimesAndBounds(t *testing.T) {
	outside, root := prison(t)
	before := beside(t, outside, "root")
	old := time.Unix(1_000_000, 5)
	at := func(e entry) entry { e.mtime = old; return e }
	for i, entries := range [][]entry{
		{folder("kept"), folder("kept/in"), folder("less"), file("less/x", ""), folder("d"), file("d/a", ""), symlink("s", "../canary"), symlink("t", outside)},
		{file("kept/in/x", ""), file("less/.wh.x", ""), at(folder("d")), file("d/b", ""), file("d/.wh.a", ""), file("s/.wh.file", ""), file("t/.wh..wh..opq", ""), file("s/dir/x", "")},
	} {
		layer := t.TempDir()
		var del whiteout.Deletions
		if _, err := extractRaw(t, makeTar(t, entries...), layer, ExtractOptions{Whiteouts: &del}); err != nil {
			t.Fatal(err)
		}
		// A layer's directory and the root are on one file system.
		if err := whiteout.Merge(t.Context(), root, layer, &del); err != nil {
			t.Fatalf("layer %d: %v", i, err)
		}
	}
	sameTree(t, "outside", beside(t, outside, "root"), before)
	for name, want := range map[string]time.Time{"d": old, "kept": when, "kept/in": when, "less": when} {
		if got := snapshot(t, root)[name].mtime; !got.Equal(want) {
			t.Errorf("the time of %s is %s", name, got)
		}
	}
	if err := whiteout.Merge(t.Context(), root, filepath.Join(outside, "none"), &whiteout.Deletions{}); err == nil {
		t.Error("merged what is not there")
	}
}
