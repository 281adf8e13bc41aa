package overlay

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// mountAt mounts a file system that needs no device until the end of the test.
func mountAt(t *testing.T, kind, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount(kind, dir, kind, 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestProbe tries file systems that can hold a store, and such that cannot. One
// whose entries have no type takes mkfs: e2e has it.
func TestProbe(t *testing.T) {
	overlay := func() string {
		base := mountAt(t, "tmpfs", "")
		for _, name := range []string{"lower", "upper", "work"} {
			if err := os.Mkdir(filepath.Join(base, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return mountAt(t, "overlay", "lowerdir="+base+"/lower,upperdir="+base+"/upper,workdir="+base+"/work")
	}
	for _, tc := range []struct {
		name  string
		dir   string
		user  bool
		lacks string // "" if it is fine
	}{
		{"tests'", t.TempDir(), false, ""},
		{"tests', not root", t.TempDir(), true, ""},
		{"tmpfs", mountAt(t, "tmpfs", ""), false, ""},
		{"no xattrs", mountAt(t, "ramfs", ""), false, "opaque directories (trusted.overlay.opaque)"},
		{"no xattrs, not root", mountAt(t, "ramfs", ""), true, "opaque directories (user.overlay.opaque)"},
		{"no whiteouts", overlay(), false, "whiteouts (device 0:0)"},
	} {
		err := probe(tc.dir, tc.user)
		if tc.lacks == "" && err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if tc.lacks != "" && (err == nil || !strings.Contains(err.Error(), tc.lacks) || fault.KindOf(err) != fault.Failed || !strings.Contains(fault.HintOf(err), "ext4")) {
			t.Errorf("%s: %v, hint %q", tc.name, err, fault.HintOf(err))
		}
		if left := tree(t, tc.dir); len(left) != 1 {
			t.Errorf("%s: left behind: %q", tc.name, left)
		}
	}

	// Too little of it is something else than a lack.
	full := mountAt(t, "tmpfs", "nr_inodes=4")
	if err := probe(full, false); !errors.Is(err, unix.ENOSPC) || strings.Contains(err.Error(), "lacks") {
		t.Errorf("no inodes left: %v", err)
	}
	if left := tree(t, full); len(left) != 1 {
		t.Errorf("no inodes left: left behind: %q", left)
	}
}

// TestOpenTakesBack: a store that cannot be opened is not there afterwards, and
// what another process has in its place stays.
func TestOpenTakesBack(t *testing.T) {
	bad := mountAt(t, "ramfs", "")
	few := mountAt(t, "tmpfs", "nr_inodes=12")
	for _, dir := range []string{bad, few} {
		for _, name := range []string{"store", "."} {
			_, err := Open(t.Context(), filepath.Join(dir, name), Options{NoSync: true})
			if err == nil || fault.Advice(err) == "" {
				t.Errorf("Open: %v, hint %q", err, fault.Advice(err))
			}
			if left := tree(t, dir); len(left) != 1 {
				t.Errorf("left behind: %q", left)
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(bad, "overlay2/theirs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), bad, Options{NoSync: true}); err == nil {
		t.Error("opened")
	}
	if left := tree(t, bad); len(left) != 3 {
		t.Errorf("of what was there: %q", left)
	}
}
