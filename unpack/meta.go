package unpack

import (
	"fmt"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const paxXattr = "SCHILY.xattr."

// apply gives an open file or directory its metadata: owner first, since chown
// clears setuid bits and capabilities, times last.
func (x *extractor) apply(fd int, m meta) error {
	if x.opt.Rootless {
		if m.uid != 0 || m.gid != 0 {
			x.stats.NoOwner++
		}
	} else if err := unix.Fchown(fd, m.uid, m.gid); err != nil {
		return fmt.Errorf("set the owner %d:%d: %w", m.uid, m.gid, err)
	}
	if err := x.xattrs(m, func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) }); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, m.mode); err != nil {
		return fmt.Errorf("set the mode %o: %w", m.mode, err)
	}
	if err := futimes(fd, m.atime, m.mtime); err != nil {
		return fmt.Errorf("set the times: %w", err)
	}
	return nil
}

// applyAt does the same for what cannot be opened without side effects:
// symlinks, devices, fifos. It was created a moment ago in a directory that
// nobody else writes to, so that its name cannot mean something else by now.
func (x *extractor) applyAt(d *dir, name string, m meta, chmod bool) error {
	if x.opt.Rootless {
		if m.uid != 0 || m.gid != 0 {
			x.stats.NoOwner++
		}
	} else if err := unix.Fchownat(d.fd, name, m.uid, m.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the owner %d:%d: %w", m.uid, m.gid, err)
	}
	err := x.xattrs(m, func(attr string, value []byte) error {
		return unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", d.fd, name), attr, value, 0)
	})
	if err != nil {
		return err
	}
	if chmod {
		if err := unix.Fchmodat(d.fd, name, m.mode, 0); err != nil {
			return fmt.Errorf("set the mode %o: %w", m.mode, err)
		}
	}
	ts := timespecs(m.atime, m.mtime)
	if err := unix.UtimesNanoAt(d.fd, name, ts[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the times: %w", err)
	}
	return nil
}

// xattrs sets the extended attributes of an entry.
func (x *extractor) xattrs(m meta, set func(name string, value []byte) error) error {
	for key, value := range m.xattrs {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || value == "" || unwanted(name) { // an empty value takes a record back (POSIX pax)
			continue
		}
		err := set(name, []byte(value))
		switch {
		case err == nil:
		case err == unix.ENOTSUP,
			err == unix.EPERM && (x.opt.Rootless || strings.HasPrefix(name, "user.")):
			// The file system has none, or the kernel allows none of this kind
			// here (user.* on a symlink, say): the image works without.
			x.stats.NoXattr++
		default:
			return fmt.Errorf("set the extended attribute %s: %w", name, err)
		}
	}
	return nil
}

// unwanted lists attributes that mean something to the host and not to the
// image: labels of the machine that built it, and overlayfs' own, with which a
// layer could reach into others.
func unwanted(name string) bool {
	return name == "security.selinux" || name == "system.nfs4_acl" ||
		strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

func timespecs(atime, mtime time.Time) [2]unix.Timespec {
	return [2]unix.Timespec{
		unix.NsecToTimespec(atime.UnixNano()),
		unix.NsecToTimespec(mtime.UnixNano()),
	}
}

// futimes sets the times of an open file: utimensat(2) without a path, for which
// x/sys has no wrapper.
func futimes(fd int, atime, mtime time.Time) error {
	ts := timespecs(atime, mtime)
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
