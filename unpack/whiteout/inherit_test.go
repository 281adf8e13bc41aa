package whiteout

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/need"
)

// TestInherit: a directory that a layer does not name looks as in the uppermost layer below
// that has it, unless a layer between them hides it.
func TestInherit(t *testing.T) {
	need.Root(t, "make directories of other users")
	base := t.TempDir()
	at := func(layer string) string { return filepath.Join(base, layer) }
	mkdir := func(path string, mode uint32, uid int) {
		t.Helper()
		p := filepath.Join(base, path)
		if err := os.MkdirAll(p, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(p, uid, uid); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
	}
	form := Overlay{User: true}
	opaque := func(path string) {
		t.Helper()
		if err := unix.Setxattr(filepath.Join(base, path), form.OpaqueXattr(), []byte("y"), 0); err != nil {
			t.Fatal(err)
		}
	}
	// Of two layers, the uppermost first.
	mkdir("lower/secret", 0o700, 5)
	mkdir("lower/tmp", 0o1777, 0)
	mkdir("lower/gone", 0o700, 5)
	mkdir("lower/emptied/sub", 0o700, 5)
	mkdir("lower/link", 0o700, 5)
	mkdir("middle/secret", 0o750, 6)
	mkdir("middle/emptied", 0o711, 7)
	opaque("middle/emptied")
	if err := os.WriteFile(filepath.Join(base, "middle/gone"), nil, 0o600); err != nil { // as a whiteout does
		t.Fatal(err)
	}
	if err := os.Symlink("secret", filepath.Join(base, "middle/link")); err != nil {
		t.Fatal(err)
	}
	w := &Inheriting{Overlay: form}
	if w.Inherits() {
		t.Error("it inherits without a directory")
	}
	for _, dir := range []string{"secret", "tmp", "gone", "emptied", "emptied/sub", "link", "new", "named"} {
		mkdir("upper/"+dir, 0o755, 0)
		if err := w.Implied(dir); err != nil {
			t.Fatal(err)
		}
	}
	w.Named("named")
	mkdir("lower/named", 0o700, 5)
	if err := w.Inherit(at("upper"), []string{at("middle"), at("lower")}); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string][2]uint32{
		"secret": {0o750, 6}, "tmp": {0o1777, 0}, "gone": {0o755, 0}, "emptied": {0o711, 7}, "emptied/sub": {0o755, 0},
		"link": {0o755, 0}, "new": {0o755, 0}, "named": {0o755, 0},
	} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(at("upper"), dir), &st); err != nil {
			t.Fatal(err)
		}
		if got := [2]uint32{st.Mode & 0o7777, st.Uid}; got != want {
			t.Errorf("%s has the mode %o and the owner %d, want %o and %d", dir, got[0], got[1], want[0], want[1])
		}
		if value := make([]byte, 1); dir == "emptied" {
			if _, err := unix.Getxattr(filepath.Join(at("upper"), dir), form.OpaqueXattr(), value); err == nil {
				t.Error("it is opaque, as the one below")
			}
		}
	}
}
