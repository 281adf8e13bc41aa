package tree

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The way is found by trying, and the same comes of each.
func TestBeneath(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a/b/c"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"s": "a", "a/up": "..", "a/b/abs": "/a"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	kernel := kernelHasOpenat2()
	before := noOpenat2.Load()
	defer noOpenat2.Store(before)
	for _, off := range []bool{before, true} {
		noOpenat2.Store(off)
		tree, err := Open(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct{ path, real string }{ // and where it leads
			{"a/b/c", "a/b/c"}, {"a/b", "a/b"}, {"a/b/c", "a/b/c"}, {"a", "a"}, {"s/b/c", "a/b/c"}, {"a/up/a/b", "a/b"},
			{"a/b/abs/b/c", "a/b/c"}, {"s/up/a/up/s/b", "a/b"},
		} {
			d, err := tree.Open(tc.path, LookOnly)
			if err != nil {
				t.Fatalf("%s: %v", tc.path, err)
			}
			var got, want unix.Stat_t
			if err := unix.Fstat(d.FD, &got); err != nil {
				t.Fatal(err)
			}
			if err := unix.Stat(filepath.Join(root, tc.real), &want); err != nil {
				t.Fatal(err)
			}
			if got.Ino != want.Ino {
				t.Errorf("%s leads elsewhere", tc.path)
			}
			if d.Path() != tc.real {
				t.Errorf("%s has the path %s, want %s", tc.path, d.Path(), tc.real)
			}
		}
		tree.Forget()
		if _, err := tree.Open("a/b/c", LookOnly); err != nil {
			t.Fatal(err)
		}
		if one := len(tree.dirs) == 1; one != (kernel && !off) {
			t.Errorf("opened in one step: %t, although openat2 works: %t", one, kernel && !off)
		}
		// ".." from a directory that was opened in one step.
		up, err := tree.dirs[len(tree.dirs)-1].Retain().Parent()
		if err != nil || up.Path() != "a/b" {
			t.Errorf("above a/b/c is %v, %v", up, err)
		} else {
			up.Release()
		}
		tree.Close()
	}
}

// kernelHasOpenat2 asks the kernel, and whatever filters its calls.
func kernelHasOpenat2() bool {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH})
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}
