package unpack

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vbatts/tar-split/archive/tar"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/unpack/internal/tree"
)

const (
	paxXattr   = "SCHILY.xattr."
	defaultACL = "system.posix_acl_default"
	accessACL  = "system.posix_acl_access"
)

// meta is what an entry says of a file beside its content.
type meta struct {
	uid, gid int
	mode     uint32 // permissions, setuid, setgid and sticky
	times    [2]unix.Timespec
	xattrs   []attribute

	chown, chmod bool // it has to be told: a new file has another owner or mode
}

// attribute is an extended attribute.
type attribute struct{ name, value string }

// attributesOf finds the attributes that an entry is to have. One without a value is
// set, as Docker 29 and containerd do, though POSIX has such a record delete another.
func attributesOf(h *tar.Header) (list []attribute) {
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, paxXattr); ok && !tree.HostXattr(name) {
			list = append(list, attribute{strings.Clone(name), strings.Clone(value)}) // not all of the header
		}
	}
	return list
}

func metaOf(h *tar.Header) (meta, error) {
	if h.Uid < 0 || int64(h.Uid) > maxID || h.Gid < 0 || int64(h.Gid) > maxID {
		return meta{}, fault.New(fault.Corrupt, "the owner %d:%d is out of range", h.Uid, h.Gid)
	}
	mtime := bound(h.ModTime)
	atime := mtime
	if h.AccessTime.After(h.ModTime) {
		atime = bound(h.AccessTime)
	}
	return meta{
		uid: h.Uid, gid: h.Gid, mode: uint32(h.Mode & 0o7777), xattrs: attributesOf(h),
		times: [2]unix.Timespec{unix.NsecToTimespec(atime.UnixNano()), unix.NsecToTimespec(mtime.UnixNano())},
	}, nil
}

// bound replaces times that not every file system can hold by the epoch, as
// Docker does.
func bound(t time.Time) time.Time {
	if t.Before(time.Unix(0, 0)) || t.After(time.Unix(0, 1<<63-1)) {
		return time.Unix(0, 0)
	}
	return t
}

// left counts what could not be given to files.
type left struct{ xattrs, owners, devices, setgid atomic.Int64 }

// fresh has the metadata that a new file gets from the kernel. If an entry wants the same, two
// of six system calls are not needed, which is so for most files.
type fresh struct {
	uid, gid int
	masked   uint32 // permissions that it cannot have, mostly the umask
	known    bool   // the fields above are set
}

// probe makes a file without a name in the directory root and looks at it.
func probe(root int) (f fresh) {
	if _, err := unix.Fgetxattr(root, defaultACL, nil); err != unix.ENODATA && err != unix.ENOTSUP {
		return f
	}
	fd, err := unix.Openat(root, ".", unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o777)
	if err != nil {
		return f
	}
	defer unix.Close(fd)
	var dir, st unix.Stat_t
	if unix.Fstat(root, &dir) != nil || unix.Fstat(fd, &st) != nil || dir.Mode&unix.S_ISGID != 0 {
		return f
	}
	return fresh{uid: int(st.Uid), gid: int(st.Gid), masked: 0o777 &^ st.Mode, known: true}
}

// mark finds out which metadata has to be set for a new file in d.
func (x *extractor) mark(m *meta, d *tree.Dir) {
	inherits := d.GivesGroup(x.fresh.gid)
	m.chmod = !x.fresh.known || inherits || m.mode&^0o777 != 0 || m.mode&x.fresh.masked != 0
	m.chown = !x.fresh.known || inherits || m.uid != x.fresh.uid || m.gid != x.fresh.gid
	if x.noChown && m.uid == 0 && m.gid == 0 {
		m.chown = false // files of root belong to this user, as expected
	}
	for _, a := range m.xattrs {
		m.chmod = m.chmod || a.name == accessACL // its mask becomes the group's bits
		if a.name == defaultACL {
			x.fresh.known = false // from now on, directories say what files get
		}
	}
}

// complete gives a file its metadata, as the last thing that is done to it.
func (x *extractor) complete(fd int, m *meta) error {
	if err := x.dress(fd, m); err != nil {
		return err
	}
	if err := tree.SetTimes(fd, &m.times); err != nil {
		return fmt.Errorf("set the times: %w", err)
	}
	return nil
}

// dress gives an open file or directory all but its times: the owner first,
// since chown clears setuid bits and capabilities. It is for any goroutine.
func (x *extractor) dress(fd int, m *meta) error {
	if err := x.owner(m, func() error { return unix.Fchown(fd, m.uid, m.gid) }); err != nil {
		return err
	}
	if err := x.setXattrs(m, func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) }); err != nil {
		return err
	}
	if m.chmod {
		if err := unix.Fchmod(fd, m.mode); err != nil {
			return fmt.Errorf("set the mode %o: %w", m.mode, err)
		}
		if x.noSetgid && m.mode&unix.S_ISGID != 0 {
			return x.countSetgid(fd)
		}
	}
	return nil
}

// countSetgid counts a file whose setgid bit the kernel has cleared: chmod(2) reports no error
// for that.
func (x *extractor) countSetgid(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_ISGID == 0 {
		x.left.setgid.Add(1)
	}
	return nil
}

// owner calls change if the entry needs another owner. If extraction is rootless, it counts an
// owner that cannot be set: for lack of rights (EPERM), or since the user namespace does not map
// the ID (EINVAL). Then it also removes the setuid and setgid bits, so that no program runs as
// an unintended user. A process that could not change the metadata of another user's file sets
// no owner at all.
func (x *extractor) owner(m *meta, change func() error) error {
	if !m.chown {
		return nil
	}
	err := error(unix.EPERM)
	if !x.noChown {
		err = change()
	}
	if x.opt.Rootless && (err == unix.EPERM || err == unix.EINVAL) {
		x.left.owners.Add(1)
		m.mode &^= unix.S_ISUID | unix.S_ISGID
		return nil
	}
	if err != nil {
		return fmt.Errorf("set the owner %d:%d: %w", m.uid, m.gid, err)
	}
	return nil
}

// applyAt does the same for files that cannot be opened without side effects: symlinks,
// devices and FIFOs. It uses their names. The file was created just before, in a directory
// that no other process writes to, so the name still means this file.
func (x *extractor) applyAt(d *tree.Dir, name string, m meta, chmod bool) error {
	err := x.owner(&m, func() error { return unix.Fchownat(d.FD, name, m.uid, m.gid, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return err
	}
	err = x.setXattrs(&m, func(attr string, value []byte) error {
		return unix.Lsetxattr(d.PathOf(name), attr, value, 0)
	})
	if err != nil {
		return err
	}
	if chmod {
		if err := unix.Fchmodat(d.FD, name, m.mode, 0); err != nil {
			return fmt.Errorf("set the mode %o: %w", m.mode, err)
		}
	}
	if err := unix.UtimesNanoAt(d.FD, name, m.times[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the times: %w", err)
	}
	return nil
}

// setXattrs sets the extended attributes of an entry.
func (x *extractor) setXattrs(m *meta, set func(name string, value []byte) error) error {
	for _, a := range m.xattrs {
		err := set(a.name, []byte(a.value))
		switch {
		case err == nil:
		case err == unix.ENOTSUP,
			err == unix.EPERM && (x.opt.Rootless || strings.HasPrefix(a.name, "user.")):
			// The file system has none, or the kernel allows none of this kind
			// here (user.* on a symlink, say): the image works without.
			x.left.xattrs.Add(1)
		case err == unix.EINVAL, err == unix.ERANGE, err == unix.E2BIG:
			return fault.New(fault.Corrupt, "set the extended attribute %s: %w", tree.Quote(a.name), err)
		case err == unix.ENOSPC:
			return fault.WithHint(fmt.Errorf("set the extended attribute %s of %d bytes: %w", a.name, len(a.value), err),
				"the disk may be full; ext4 has room for 4 KiB of attributes of a file, xfs and btrfs for more")
		default:
			return fmt.Errorf("set the extended attribute %s: %w", a.name, err)
		}
	}
	return nil
}
