package unpack

import (
	"archive/tar"
	"fmt"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/unpack/whiteout"
)

const (
	deleted = "char 0000 0:0 0:0"
	dir755  = "dir 0755 0:0"
	opaque  = ` trusted.overlay.opaque="y"`
)

// TestParity is the table of what dockerd does with the odd cases of a layer, and
// where fastpull differs on purpose. Most rows are a row of the design's table.
func TestParity(t *testing.T) {
	long := strings.Repeat("n", 255)
	for _, tc := range []struct {
		name    string // the case
		why     string // what decides it
		entries []entry
		want    []string
		refuse  string // a part of the error, if it is one
	}{
		{"whiteout", "overlayfs: char device 0:0, mode 0", []entry{file(".wh.x", "")}, []string{"x: " + deleted}, ""},
		{"whiteout with an owner", "dockerd gives it the entry's owner",
			[]entry{owned(file(".wh.x", ""), 7, 8)}, []string{"x: char 0000 7:8 0:0"}, ""},
		{"whiteout below", "its missing parents are made",
			[]entry{file("a/b/.wh.x", "")}, []string{"a: " + dir755, "a/b: " + dir755, "a/b/x: " + deleted}, ""},
		{"opaque", "overlayfs: an attribute of the directory",
			[]entry{mode(folder("d"), 0o700), file("d/.wh..wh..opq", "")}, []string{"d: dir 0700 0:0" + opaque}, ""},
		{"opaque, parent missing", "made, 0755", []entry{file("a/d/.wh..wh..opq", "")}, []string{"a: " + dir755, "a/d: " + dir755 + opaque}, ""},
		{"opaque, then the directory", "an entry of a directory keeps what it is",
			[]entry{file("d/.wh..wh..opq", ""), mode(folder("d"), 0o711)}, []string{"d: dir 0711 0:0" + opaque}, ""},
		{"whiteout, then file", "the file wins", []entry{file(".wh.x", ""), file("x", "new")}, []string{`x: file 0644 0:0 "new"`}, ""},
		{"whiteout, then symlink", "the symlink wins", []entry{file(".wh.x", ""), symlink("x", "y")}, []string{"x: symlink 0777 0:0 -> y"}, ""},
		{"file, then whiteout", "layer.md: a whiteout speaks of lower layers; dockerd fails",
			[]entry{file("x", "new"), file(".wh.x", "")}, []string{`x: file 0644 0:0 "new"`}, ""},
		{"directory, then whiteout", "layer.md: it stays, and hides what was below",
			[]entry{folder("d"), file("d/f", "1"), file(".wh.d", "")}, []string{"d: " + dir755 + opaque, `d/f: file 0644 0:0 "1"`}, ""},
		{"whiteout, then directory", "dockerd lets the lower layer's files show through: a bug",
			[]entry{file(".wh.b", ""), folder("b"), file("b/new", "1")}, []string{"b: " + dir755 + opaque, `b/new: file 0644 0:0 "1"`}, ""},
		{"whiteout, then a file below", "the same with an implied directory",
			[]entry{file(".wh.b", ""), file("b/new", "1")}, []string{"b: " + dir755 + opaque, `b/new: file 0644 0:0 "1"`}, ""},
		{"whiteout twice", "the same thing said twice", []entry{file(".wh.x", ""), file("./.wh.x", "")}, []string{"x: " + deleted}, ""},
		{"opaque, then whiteout in it", "nothing to hide: dockerd keeps a ghost name",
			[]entry{file("d/.wh..wh..opq", ""), file("d/.wh.a", ""), file("d/b", "")}, []string{"d: " + dir755 + opaque, `d/b: file 0644 0:0 ""`}, ""},
		{"whiteout, then opaque around it", "the same in the other order",
			[]entry{file("d/.wh.a", ""), file("d/.wh..wh..opq", "")}, []string{"d: " + dir755 + opaque}, ""},
		{"whiteout in a directory made opaque by its whiteout", "the same",
			[]entry{file(".wh.d", ""), file("d/.wh.a", ""), file("d/b", "")}, []string{"d: " + dir755 + opaque, `d/b: file 0644 0:0 ""`}, ""},
		{"whiteout further down in an opaque directory", "the same",
			[]entry{file("d/e/.wh.a", ""), file("d/.wh..wh..opq", "")}, []string{"d: " + dir755 + opaque, "d/e: " + dir755}, ""},
		{"whiteout beside an opaque root", "the mark is ignored, as overlayfs ignores it: the whiteout hides what it names",
			[]entry{file(".wh.a", ""), file(".wh..wh..opq", "")}, []string{"a: " + deleted}, ""},
		{"opaque by another name", "one directory, however it is called",
			[]entry{folder("d"), symlink("s", "d"), file("s/.wh.a", ""), file("d/.wh..wh..opq", "")}, []string{"d: " + dir755 + opaque, "s: symlink 0777 0:0 -> d"}, ""},
		{"file, then whiteout below it", "layer.md: a whiteout speaks of lower layers; dockerd fails",
			[]entry{file("usr/lib", "mine"), file("usr/lib/.wh.x", ""), file("usr/lib/a/b/.wh.y", "")}, []string{"usr: " + dir755, `usr/lib: file 0644 0:0 "mine"`}, ""},
		{"whiteout, then a file in the place of its directory", "the same in the other order",
			[]entry{file("usr/lib/.wh.x", ""), file("usr/lib", "mine")}, []string{"usr: " + dir755, `usr/lib: file 0644 0:0 "mine"`}, ""},
		{"file, then opaque below it", "the same", []entry{file("f", "mine"), file("f/.wh..wh..opq", "")}, []string{`f: file 0644 0:0 "mine"`}, ""},
		{"file, then char 0:0 below it", "the same", []entry{file("f", "mine"), device("f/x", tar.TypeChar, 0, 0)}, []string{`f: file 0644 0:0 "mine"`}, ""},
		{"file, then AUFS' own below it", "the same", []entry{file("f", "mine"), file("f/.wh..wh.x", "")}, []string{`f: file 0644 0:0 "mine"`}, ""},
		{"symlink to a file, then whiteout below it", "the same by a detour",
			[]entry{file("f", "mine"), symlink("s", "f"), file("s/.wh.x", "")}, []string{`f: file 0644 0:0 "mine"`, "s: symlink 0777 0:0 -> f"}, ""},
		{"whiteout below a whiteout", "the name below is a directory's", []entry{file(".wh.d", ""), file("d/.wh.a", "")}, []string{"d: " + dir755 + opaque}, ""},
		{"whiteout of nothing", "error, as in dockerd", []entry{file("d/.wh.", "")}, nil, "whiteout of nothing"},
		{"whiteout of .", "nobody can delete that", []entry{file("d/.wh..", "")}, nil, "whiteout of nothing"},
		{"whiteout of ..", "nor that", []entry{file("d/.wh...", "")}, nil, "whiteout of nothing"},
		{"whiteout as a directory", "the name decides", []entry{folder(".wh.x")}, []string{"x: " + deleted}, ""},
		{"root entry", "the root is the store's: mode and time are ignored", []entry{owned(mode(folder("./"), 0o700), 5, 5), file("x", "")}, []string{`x: file 0644 0:0 ""`}, ""},
		{"missing parents", "root's, 0755", []entry{file("a/b/x", "")}, []string{"a: " + dir755, "a/b: " + dir755, `a/b/x: file 0644 0:0 ""`}, ""},
		{"missing parents, named later", "the entry's mode holds", []entry{file("a/x", ""), owned(mode(folder("a"), 0o750), 1, 2)}, []string{"a: dir 0750 1:2", `a/x: file 0644 0:0 ""`}, ""},
		{"hardlink", "two names of one inode", []entry{mode(file("a", "1"), 0o4711), mode(hardlink("b", "a"), 0o4711)}, []string{`a: file 4711 0:0 "1" links 2 =a`, `b: file 4711 0:0 "1" links 2 =a`}, ""},
		{"hardlink with a mode and an owner", "the last entry of a file holds", []entry{file("a", "1"), owned(mode(hardlink("b", "a"), 0o777), 3, 3)}, []string{`a: file 0777 3:3 "1" links 2 =a`, `b: file 0777 3:3 "1" links 2 =a`}, ""},
		{"hardlink that gives the file back to root", "the same", []entry{owned(mode(file("a", "1"), 0o4755), 3, 4), mode(hardlink("b", "a"), 0o755), mode(hardlink("c", "a"), 0o4711)},
			[]string{`a: file 4711 0:0 "1" links 3 =a`, `b: file 4711 0:0 "1" links 3 =a`, `c: file 4711 0:0 "1" links 3 =a`}, ""},
		{"hardlink with setuid and another owner", "chown clears the bit, so the mode comes after it",
			[]entry{mode(file("a", "1"), 0o4755), owned(mode(hardlink("b", "a"), 0o4755), 3, 3)}, []string{`a: file 4755 3:3 "1" links 2 =a`, `b: file 4755 3:3 "1" links 2 =a`}, ""},
		{"hardlink with attributes", "those that it names", []entry{xattr(file("a", "1"), "user.a", "1"), xattr(hardlink("b", "a"), "user.a", "2"), xattr(hardlink("c", "a"), "user.c", "")},
			[]string{`a: file 0644 0:0 "1" links 3 =a user.a="2" user.c=""`, `b: file 0644 0:0 "1" links 3 =a user.a="2" user.c=""`, `c: file 0644 0:0 "1" links 3 =a user.a="2" user.c=""`}, ""},
		{"hardlink to a file with a capability", "chown would take it away, and is not needed",
			[]entry{xattr(owned(file("a", ""), 1, 1), "security.capability", capability), owned(hardlink("b", "a"), 1, 1)},
			[]string{`a: file 0644 1:1 "" links 2 =a security.capability="` + escape(capability) + `"`, `b: file 0644 1:1 "" links 2 =a security.capability="` + escape(capability) + `"`}, ""},
		{"hardlink to a symlink", "another owner", []entry{symlink("a", "none"), owned(mode(hardlink("b", "a"), 0o600), 3, 3)}, []string{"a: symlink 0777 3:3 -> none links 2 =a", "b: symlink 0777 3:3 -> none links 2 =a"}, ""},
		{"hardlink to a device", "the last entry of a file holds", []entry{device("a", tar.TypeChar, 1, 3), owned(mode(hardlink("b", "a"), 0o600), 3, 3)}, []string{"a: char 0600 3:3 1:3 links 2 =a", "b: char 0600 3:3 1:3 links 2 =a"}, ""},
		{"hardlink to a lower layer", "another directory on disk: error, as in dockerd", []entry{hardlink("b", "usr/bin/a")}, nil, "is not in this layer"},
		{"hardlink with an absolute target", "inside the root", []entry{file("d/a", "1"), hardlink("b", "/d/a")}, []string{"d: " + dir755, `d/a: file 0644 0:0 "1" links 2 =b`, `b: file 0644 0:0 "1" links 2 =b`}, ""},
		{"file, then a file below it", "dockerd fails; it is replaced, and hides a lower directory as it did",
			[]entry{file("a", "1"), file("a/b", "2")}, []string{"a: " + dir755 + opaque, `a/b: file 0644 0:0 "2"`}, ""},
		{"out of the root", "go-archive 0.3 rejects it", []entry{file("../../x", "")}, nil, "leads out of the layer"},
		{"out of the root by a detour", "the same", []entry{file("a/../../x", "")}, nil, "leads out of the layer"},
		{"absolute name", "inside the root", []entry{file("/a/x", "1")}, []string{"a: " + dir755, `a/x: file 0644 0:0 "1"`}, ""},
		{"name with dots", "cleaned", []entry{file("a/./b/../x", "1")}, []string{"a: " + dir755, `a/x: file 0644 0:0 "1"`}, ""},
		{"through a symlink of the layer", "resolved inside the root",
			[]entry{folder("d"), symlink("s", "/d"), file("s/x", "1")}, []string{"d: " + dir755, "s: symlink 0777 0:0 -> /d", `d/x: file 0644 0:0 "1"`}, ""},
		{"trusted.overlay attribute", "dangerous: a layer could reach into others", []entry{xattr(folder("d"), "trusted.overlay.opaque", "y"), xattr(folder("e"), "trusted.overlay.redirect", "/d")}, []string{"d: " + dir755, "e: " + dir755}, ""},
		{"user.overlay attribute", "the same for mounts with userxattr", []entry{xattr(folder("d"), "user.overlay.opaque", "y")}, []string{"d: " + dir755}, ""},
		{"char 0:0 in the tar", "a deleted, as overlayfs takes it", []entry{device("x", tar.TypeChar, 0, 0)}, []string{"x: " + deleted}, ""},
		{"char 0:0 after its file", "so the file stays", []entry{file("x", "1"), device("./x", tar.TypeChar, 0, 0)}, []string{`x: file 0644 0:0 "1"`}, ""},
		{"AUFS' own", "skipped; dockerd makes whiteouts of them", []entry{folder(".wh..wh.plnk"), folder(".wh..wh.orph"), file(".wh..wh.aufs", ""), file("d/.wh..wh.x", "")}, []string{"d: " + dir755}, ""},
		{"AUFS' hardlinks", "resolved, and their hiding place is gone",
			[]entry{mode(file(".wh..wh.plnk/12.34", "data"), 0o600), mode(hardlink("a", ".wh..wh.plnk/12.34"), 0o600), mode(hardlink("b", "/.wh..wh.plnk/12.34"), 0o600), file(".wh..wh.plnk/56.78", "nobody's")},
			[]string{`a: file 0600 0:0 "data" links 2 =a`, `b: file 0600 0:0 "data" links 2 =a`}, ""},
		{"the same path twice", "the last wins; tar-split refuses, see below", []entry{file("x", "1"), file("x", "22")}, []string{`x: file 0644 0:0 "22"`}, ""},
		{"empty layer", "fine", nil, nil, ""},
		{"a name of 255", "fine", []entry{file(long, "1")}, []string{long + `: file 0644 0:0 "1"`}, ""},
		{"a name of 256", "no file system takes it", []entry{file(long+"n", "1")}, nil, "name too long"},
		{"a directory of 256", "the same on the way", []entry{file(long+"n/x", "1")}, nil, "name too long"},
		{"a symlink to nothing", "the kernel has none", []entry{symlink("s", "")}, nil, "symlink to nothing"},
		{"a global header", "of git archive: no file", []entry{{name: "pax_global_header", kind: tar.TypeXGlobalHeader}, file("x", "1")}, []string{`x: file 0644 0:0 "1"`}, ""},
		{"old type of a file", "a contiguous one is a file", []entry{{name: "x", kind: tar.TypeCont}}, []string{`x: file 0644 0:0 ""`}, ""},
		{"unknown type", "nobody knows what to do", []entry{{name: "x", kind: 'Z'}}, nil, "is none that a layer may have"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root, err := extract(t, tc.entries...)
			if tc.refuse != "" {
				refused(t, err, tc.refuse)
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", tc.why, err)
			}
			looksLike(t, root, tc.want...)
			if t.Failed() {
				t.Log(tc.why)
			}
		})
	}
}

// A layer with a path twice cannot be kept for Docker: it could not read it back.
func TestTwiceIsRefusedForDocker(t *testing.T) {
	raw := makeTar(t, file("x", "1"), file("./x", "2"))
	_, err := extractRaw(t, raw, t.TempDir(), ExtractOptions{Whiteouts: whiteout.Overlay{}, TarSplit: new(strings.Builder)})
	if err == nil || !strings.Contains(err.Error(), `entry "./x"`) || !strings.Contains(err.Error(), "twice") {
		t.Errorf("got %v", err)
	}
}

// More entries than any cache holds, in an order that jumps.
func TestManyDirectories(t *testing.T) {
	var entries []entry
	var want []string
	for _, i := range []int{3, 0, 2, 1, 4} {
		for j := range 20 {
			name := fmt.Sprintf("d%d/e%d/f%d", i, (i+j)%5, j)
			entries = append(entries, file(name, name))
			want = append(want, fmt.Sprintf("%s: file 0644 0:0 %q", name, name))
		}
	}
	for i := range 5 {
		want = append(want, fmt.Sprintf("d%d: %s", i, dir755))
		for j := range 5 {
			want = append(want, fmt.Sprintf("d%d/e%d: %s", i, j, dir755))
		}
	}
	root, err := extract(t, entries...)
	if err != nil {
		t.Fatal(err)
	}
	looksLike(t, root, want...)
}
