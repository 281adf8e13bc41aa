package unpack

import (
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/vbatts/tar-split/archive/tar"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// node makes what an entry describes, base in the directory d, and gives it its
// metadata. What stands there already is replaced, unless both are directories.
func (x *extractor) node(d *dir, base string, h *tar.Header, content io.Reader) error {
	m, err := metaOf(h)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse: //nolint:staticcheck // RegA is what old tars have
		return x.file(d, base, m, h, content)
	case tar.TypeDir:
		return x.directory(d, base, m)
	case tar.TypeLink:
		return x.hardlink(d, base, h.Linkname)
	case tar.TypeSymlink:
		if h.Linkname == "" {
			return fault.New(fault.Corrupt, "a symlink to nothing")
		}
		if err := x.replacing(d, base, func() error { return unix.Symlinkat(h.Linkname, d.fd, base) }); err != nil {
			return fmt.Errorf("create the symlink: %w", err)
		}
		x.stats.Size += int64(len(h.Linkname))
		return x.applyAt(d, base, m, false)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return x.special(d, base, m, h)
	}
	return fault.New(fault.Corrupt, "the type %q is none that a layer may have", h.Typeflag)
}

func (x *extractor) file(d *dir, base string, m meta, h *tar.Header, content io.Reader) error {
	var fd int
	err := x.replacing(d, base, func() (err error) {
		fd, err = unix.Openat(d.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return fmt.Errorf("create the file: %w", err)
	}
	if h.Size > 0 {
		err = x.fill(fd, content)
	}
	if err == nil {
		err = x.apply(fd, m)
	}
	// Close reports what a network file system or a quota has to say.
	if cerr := unix.Close(fd); err == nil && cerr != nil {
		err = fmt.Errorf("write the file: %w", cerr)
	}
	x.stats.Size += h.Size
	return err
}

func (x *extractor) fill(fd int, content io.Reader) error {
	for {
		n, err := content.Read(x.buf)
		for b := x.buf[:n]; len(b) > 0; {
			w, err := unix.Write(fd, b)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return fmt.Errorf("write the file: %w", err)
			}
			b = b[w:]
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return x.tarError(err)
		}
	}
}

func (x *extractor) directory(d *dir, base string, m meta) error {
	over := false
	err := unix.Mkdirat(d.fd, base, 0o700)
	if err == unix.EEXIST {
		var st unix.Stat_t
		if err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			err = nil
		} else {
			over = true
			if err = x.remove(d, base); err == nil {
				err = unix.Mkdirat(d.fd, base, 0o700)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("create the directory: %w", err)
	}
	sub, err := x.tree.enter(d, base)
	if err != nil {
		return err
	}
	defer sub.drop()
	if over { // what stood here, most often a whiteout, must go on hiding what is below
		if err := x.opaque(sub); err != nil {
			return err
		}
	}
	x.late[sub.path()] = lateDir{mode: m.mode, atime: m.atime, mtime: m.mtime}
	m.mode |= 0o700
	return x.apply(sub.fd, m)
}

// implied is told of a directory that an entry needed and no entry made.
func (x *extractor) implied(parent *dir, name string, over bool) error {
	if err := unix.Fchmodat(parent.fd, name, 0o755, 0); err != nil { // whatever the umask is
		return err
	}
	if len(x.late) > 0 { // another directory may have stood here before
		delete(x.late, path.Join(parent.path(), name))
	}
	if !over {
		return nil
	}
	return x.opaqueAt(parent, name)
}

// clear removes a file that stands where a directory is needed.
func (x *extractor) clear(parent *dir, name string) error {
	x.replaced = true
	return unix.Unlinkat(parent.fd, name, 0)
}

// hardlink links to something that this layer brought before. As in Docker it
// cannot be a file of a lower layer, which is another directory on disk.
func (x *extractor) hardlink(d *dir, base, target string) error {
	clean := path.Clean(strings.TrimLeft(target, "/"))
	if clean == "." || clean == ".." || strings.HasPrefix(clean, "../") {
		return fault.New(fault.Corrupt, "the hardlink's target %s leads out of the layer", quote(target))
	}
	parent, tbase := path.Split(clean)
	td, err := x.tree.open(path.Clean(parent), false)
	if err == nil {
		if td == d && tbase == base {
			return fault.New(fault.Corrupt, "a hardlink to itself")
		}
		td.keep()
		defer td.drop()
		err = linkable(td.fd, tbase)
	}
	if err == nil {
		err = x.replacing(d, base, func() error { return unix.Linkat(td.fd, tbase, d.fd, base, 0) })
	}
	if gone(err) {
		return fault.New(fault.Corrupt, "the hardlink's target %s is not in this layer", quote(target))
	}
	if err != nil {
		return fmt.Errorf("link to %s: %w", quote(target), err)
	}
	return nil
}

// linkable refuses what the layer has at that name and cannot be linked to: a
// directory, and a whiteout, which says that the layer has nothing there.
func linkable(fd int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return fault.Wrap(fault.Corrupt, unix.EISDIR)
	}
	if isWhiteout(&st) {
		return unix.ENOENT
	}
	return nil
}

func (x *extractor) special(d *dir, base string, m meta, h *tar.Header) error {
	kind, dev := uint32(unix.S_IFIFO), 0
	if h.Typeflag != tar.TypeFifo {
		// Linux has 12 and 20 bits for them, and mknod cuts off the rest: 4096:0
		// would become 0:0, a whiteout.
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return fault.New(fault.Corrupt, "the device number %d:%d is out of range", h.Devmajor, h.Devminor)
		}
		if x.opt.Rootless {
			x.stats.NoDevice++
			return nil
		}
		kind = unix.S_IFCHR
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		dev = int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	}
	if err := x.replacing(d, base, func() error { return unix.Mknodat(d.fd, base, kind|0o600, dev) }); err != nil {
		return fmt.Errorf("create the device or fifo: %w", err)
	}
	return x.applyAt(d, base, m, true)
}

// replacing runs create, and once more when something was in its way.
func (x *extractor) replacing(d *dir, base string, create func() error) error {
	err := create()
	if err != unix.EEXIST {
		return err
	}
	if err := x.remove(d, base); err != nil {
		return err
	}
	return create()
}

// remove deletes what an earlier entry of the layer made.
func (x *extractor) remove(d *dir, base string) error {
	x.replaced = true
	x.tree.forget() // the path that is open may lead through it
	return removeAll(d.fd, base)
}

// meta is what an entry says of a file beside its content.
type meta struct {
	uid, gid     int
	mode         uint32 // permissions, setuid, setgid and sticky
	atime, mtime time.Time
	xattrs       map[string]string // PAX records, those that are xattrs among them
}

func metaOf(h *tar.Header) (meta, error) {
	const maxID = 1<<32 - 2 // -1 means "leave it" to chown
	if h.Uid < 0 || int64(h.Uid) > maxID || h.Gid < 0 || int64(h.Gid) > maxID {
		return meta{}, fault.New(fault.Corrupt, "the owner %d:%d is out of range", h.Uid, h.Gid)
	}
	m := meta{uid: h.Uid, gid: h.Gid, mode: uint32(h.Mode & 0o7777), mtime: bound(h.ModTime), xattrs: h.PAXRecords}
	m.atime = m.mtime
	if h.AccessTime.After(h.ModTime) {
		m.atime = bound(h.AccessTime)
	}
	return m, nil
}

// bound replaces times that not every file system can hold by the epoch, as
// Docker does.
func bound(t time.Time) time.Time {
	if t.Before(time.Unix(0, 0)) || t.After(time.Unix(0, 1<<63-1)) {
		return time.Unix(0, 0)
	}
	return t
}
