//go:build e2e

package kit

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TreeOptions says what of two trees is not compared. The zero value compares
// everything: names, types, modes, owners, times to the nanosecond, extended
// attributes, hard links, device numbers, link targets and contents.
type TreeOptions struct {
	// madeUp is when the test began. Files changed after it got their time from
	// the extraction, not from the image: they are equal in that.
	MadeUp time.Time
	// seconds compares times without their fractions.
	Seconds bool
	// noLinkCounts compares only which names of the tree are one file, not how
	// many names it has in all: an overlay counts those that it hides.
	NoLinkCounts bool
	// noTimes leaves times out.
	NoTimes bool
	// xattr picks those to compare; nil is all.
	Xattr func(name string) bool
	// skip leaves out a path, relative to the tree, and all below it.
	Skip func(path string) bool
}

// Node is what is known of a file: attribute to value.
type Node map[string]string

// CompareTrees gives the differences between two trees, sorted by path; want
// is the one that is right.
func CompareTrees(t *testing.T, got, want string, o TreeOptions) []string {
	t.Helper()
	return CompareNodes(ReadTree(t, got, o), ReadTree(t, want, o))
}

func CompareNodes(got, want map[string]Node) []string {
	var diffs []string
	for _, d := range Differences(got, want) {
		diffs = append(diffs, d.String())
	}
	return diffs
}

// Difference is one attribute of one file in which two trees differ, or, if
// attr is empty, a file that only one of them has: got or want says what it is.
type Difference struct{ Path, Attr, Got, Want string }

func (d Difference) String() string {
	switch {
	case d.Attr != "":
		return fmt.Sprintf("%q: %s is %q, want %q", d.Path, d.Attr, d.Got, d.Want)
	case d.Got == "":
		return fmt.Sprintf("%q is missing", d.Path)
	}
	return fmt.Sprintf("%q should not be there", d.Path)
}

// Differences gives those between two trees, sorted by path.
func Differences(got, want map[string]Node) []Difference {
	var diffs []Difference
	paths := maps.Clone(got)
	maps.Copy(paths, want)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		g, inGot := got[path]
		w, inWant := want[path]
		if !inGot || !inWant {
			diffs = append(diffs, Difference{Path: path, Got: g["type"], Want: w["type"]})
			continue
		}
		attrs := maps.Clone(g)
		maps.Copy(attrs, w)
		for _, a := range slices.Sorted(maps.Keys(attrs)) {
			if g[a] != w[a] {
				diffs = append(diffs, Difference{path, a, g[a], w[a]})
			}
		}
	}
	return diffs
}

// ReadTree reads all below root, and root itself as ".".
func ReadTree(t *testing.T, root string, o TreeOptions) map[string]Node {
	t.Helper()
	tree := map[string]Node{}
	first := map[[2]uint64]string{} // a file with several names: the first of them
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if rel != "." && o.Skip != nil && o.Skip(rel) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		n, st, err := readNode(path, o)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if !entry.IsDir() && st.Nlink > 1 {
			id := [2]uint64{uint64(st.Dev), st.Ino}
			if _, seen := first[id]; !seen {
				first[id] = rel
			}
			n["same file as"] = first[id]
			if !o.NoLinkCounts {
				n["links"] = fmt.Sprint(st.Nlink)
			}
		}
		tree[rel] = n
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.NoLinkCounts {
		dropSingles(tree)
	}
	return tree
}

// dropSingles makes a file whose other names are not in the tree a plain one.
func dropSingles(tree map[string]Node) {
	names := map[string]int{}
	for _, n := range tree {
		names[n["same file as"]]++
	}
	for _, n := range tree {
		if names[n["same file as"]] == 1 {
			delete(n, "same file as")
		}
	}
}

var typeNames = map[uint32]string{
	unix.S_IFREG: "file", unix.S_IFDIR: "directory", unix.S_IFLNK: "symlink", unix.S_IFIFO: "fifo",
	unix.S_IFCHR: "character device", unix.S_IFBLK: "block device", unix.S_IFSOCK: "socket",
}

func readNode(path string, o TreeOptions) (Node, unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil, st, err
	}
	n := Node{
		"type":  typeNames[st.Mode&unix.S_IFMT],
		"mode":  fmt.Sprintf("%04o", st.Mode&^unix.S_IFMT),
		"owner": fmt.Sprintf("%d:%d", st.Uid, st.Gid),
	}
	if !o.NoTimes {
		n["mtime"] = o.time(time.Unix(st.Mtim.Unix()))
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, st, err
		}
		n["size"] = fmt.Sprint(len(content))
		n["content"] = fmt.Sprintf("%x", sha256.Sum256(content))
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return nil, st, err
		}
		n["target"] = target
	case unix.S_IFCHR, unix.S_IFBLK:
		n["device"] = fmt.Sprintf("%d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	}
	return n, st, readXattrs(path, n, o)
}

func (o TreeOptions) time(mtime time.Time) string {
	switch {
	case !o.MadeUp.IsZero() && mtime.After(o.MadeUp):
		return "not from the image"
	case o.Seconds:
		mtime = mtime.Truncate(time.Second)
	}
	return mtime.UTC().Format(time.RFC3339Nano)
}

func readXattrs(path string, n Node, o TreeOptions) error {
	size, err := unix.Llistxattr(path, nil)
	if size == 0 && err == nil {
		return nil // most files, and there are many
	}
	list := make([]byte, 64<<10)
	if err == nil {
		size, err = unix.Llistxattr(path, list)
	}
	if err != nil {
		return fmt.Errorf("list xattrs: %w", err)
	}
	for name := range bytes.SplitSeq(list[:size], []byte{0}) {
		attr := string(name)
		if attr == "" || o.Xattr != nil && !o.Xattr(attr) {
			continue
		}
		value := make([]byte, 64<<10)
		size, err := unix.Lgetxattr(path, attr, value)
		if err != nil {
			return fmt.Errorf("xattr %s: %w", attr, err)
		}
		n["xattr "+attr] = fmt.Sprintf("set to %q", value[:size])
	}
	return nil
}

// ExpectSame fails the test with the differences, if there are any.
func ExpectSame(t *testing.T, what string, diffs []string) {
	t.Helper()
	if len(diffs) > 0 {
		more := ""
		if n := len(diffs) - 40; n > 0 {
			diffs, more = diffs[:40], fmt.Sprintf("\n\t… and %d more", n)
		}
		t.Errorf("%s:\n\t%s%s", what, strings.Join(diffs, "\n\t"), more)
	}
}
