package overlay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/tmpfile"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// probe tries in the folder dir what layers and overlayfs need of a file system, and leaves
// nothing there. The name of a file system does not tell what it can do: that depends on how
// it was made and mounted, and on what it is nested in. user is that of [whiteout.Overlay].
//
// It takes some twenty system calls. Without it a pull would fail after the download, in the
// first layer that deletes something. If directory entries have no type, it would not even
// fail: overlayfs shows whiteouts as files then.
func probe(dir string, user bool) error {
	needs, err := Probe(dir, user)
	if err != nil {
		return err
	}
	var lacks []string
	for _, n := range needs {
		if n.Lacking {
			lacks = append(lacks, n.What)
		}
	}
	if len(lacks) > 0 {
		return fault.WithHint(
			fault.New(fault.Failed, "its file system lacks what a store needs: %s", strings.Join(lacks, ", ")),
			"choose a directory with --store that is on ext4, btrfs, or xfs made with ftype=1 (mkfs.xfs -n ftype=1), and not inside another overlay")
	}
	return nil
}

// Need is something that a store needs of its file system.
type Need struct {
	What    string
	Lacking bool
}

// Probe finds out whether a file system has the features that a store needs. It tries them in a
// new folder in dir, which it removes. user is that of [whiteout.Overlay]. It returns an error
// if it could not try.
func Probe(dir string, user bool) (needs []Need, err error) {
	at := filepath.Join(dir, "probe")
	if err := os.Mkdir(at, 0o700); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tmpfile.RemoveAll(at)) }()
	d, err := os.Open(at)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	fd, form := int(d.Fd()), whiteout.Overlay{User: user}

	for _, need := range []struct {
		what string
		try  func() error
	}{
		{"files", func() error { return writeNew(filepath.Join(at, "file"), 0o600, nil) }},
		{"symlinks", func() error { return unix.Symlinkat("file", fd, "symlink") }},
		{"hardlinks", func() error { return unix.Linkat(fd, "file", fd, "hardlink", 0) }},
		{"whiteouts (device 0:0)", func() error {
			err := form.Whiteout(fd, "", "whiteout", 0, 0)
			if user && errors.Is(err, unix.EPERM) {
				// So says the kernel and not the file system (mknod(2), before
				// Linux 5.8): images that delete nothing can be pulled.
				return nil
			}
			return err
		}},
		{"opaque directories (" + form.OpaqueXattr() + ")", func() error { return form.Opaque(fd, "") }},
		{"file types in directories (d_type)", func() error { return typed(fd) }},
	} {
		err := need.try()
		if err != nil && !unsupported(err) {
			return needs, fmt.Errorf("try %s: %w", need.what, err)
		}
		needs = append(needs, Need{need.what, err != nil})
	}
	return needs, nil
}

// unsupported reports whether an error means that a file system lacks a feature.
func unsupported(err error) bool {
	for _, errno := range []unix.Errno{unix.EOPNOTSUPP, unix.ENOSYS, unix.EPERM, unix.EINVAL} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// typed returns ENOTSUP if the entries of a directory, which must have some, have no types. It
// does not use os.ReadDir, which looks up missing types itself.
func typed(fd int) error {
	// struct linux_dirent64 (getdents64(2)): the record's length, then the type,
	// are behind two numbers of 8 bytes.
	const lengthAt, typeAt, nameAt = 16, 18, 19
	buf := make([]byte, 4<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil || n <= 0 {
			return err
		}
		for rec := buf[:n]; len(rec) > nameAt; {
			length := binary.NativeEndian.Uint16(rec[lengthAt:])
			// Some file systems know no better than this of "." and "..".
			if rec[typeAt] == unix.DT_UNKNOWN && rec[nameAt] != '.' {
				return unix.EOPNOTSUPP
			}
			rec = rec[length:]
		}
	}
}
