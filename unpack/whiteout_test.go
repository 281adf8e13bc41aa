package unpack

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// TestWhiteoutRefused makes a whiteout where mknod fails with EPERM, as it does
// for users other than root before Linux 5.8: on a file system without devices.
func TestWhiteoutRefused(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("mqueue", dir, "mqueue", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, o := range []whiteout.Overlay{{}, {User: true}} {
		err := o.Whiteout(fd, ".", "x", 0, 0)
		if fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "create a whiteout") || !strings.Contains(fault.HintOf(err), "Linux 5.8") {
			t.Errorf("%+v: %v, hint %q", o, err, fault.HintOf(err))
		}
	}
}
