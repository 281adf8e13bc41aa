package unpack

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/vbatts/tar-split/archive/tar"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/unpack/internal/tarsplit"
	"github.com/fastpull/fastpull/unpack/internal/tree"
)

// node makes what an entry describes, base in the directory d, and gives it its
// metadata. What stands there already is replaced, unless both are directories.
func (x *extractor) node(d *tree.Dir, base string, h *tar.Header, content io.Reader) error {
	m, err := metaOf(h)
	if err != nil {
		return err
	}
	x.mark(&m, d)
	if err := x.space.take(tarsplit.ContentSize(h)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse: //nolint:staticcheck // RegA is what old tars have
		return x.file(d, base, m, h, content)
	case tar.TypeDir:
		return x.directory(d, base, m)
	case tar.TypeLink:
		return x.hardlink(d, base, h.Linkname, m)
	case tar.TypeSymlink:
		if h.Linkname == "" {
			return fault.New(fault.Corrupt, "a symlink to nothing")
		}
		if err := x.replacing(d, base, func() error { return unix.Symlinkat(h.Linkname, d.FD, base) }); err != nil {
			return fmt.Errorf("create the symlink: %w", err)
		}
		x.stats.Size += int64(len(h.Linkname))
		return x.applyAt(d, base, m, false)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return x.special(d, base, m, h)
	}
	return fault.New(fault.Corrupt, "the type %q is none that a layer may have", h.Typeflag)
}

func (x *extractor) file(d *tree.Dir, base string, m meta, h *tar.Header, content io.Reader) error {
	var fd int
	mode := m.mode & 0o777
	if x.opt.Rootless && len(m.xattrs) > 0 && mode&0o200 == 0 {
		mode, m.chmod = mode|0o200, true // user.* takes the right to write to the file
	}
	err := x.replacing(d, base, func() (err error) {
		fd, err = unix.Openat(d.FD, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return fmt.Errorf("create the file: %w", err)
	}
	x.stats.Size += h.Size
	x.read = true
	content = x.split.Keep(content, !x.astray)
	if err := x.out.write(fd, strings.Clone(h.Name[:min(len(h.Name), unix.PathMax)]), m, h.Size, content); err != nil {
		return x.tarError(err)
	}
	return nil
}

func (x *extractor) directory(d *tree.Dir, base string, m meta) error {
	over, old := false, false
	mode := m.mode
	if x.opt.Rootless {
		mode |= 0o700 // until it is closed
	}
	err := unix.Mkdirat(d.FD, base, mode&0o777)
	if err == unix.EEXIST {
		var st unix.Stat_t
		if err := unix.Fstatat(d.FD, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if old = st.Mode&unix.S_IFMT == unix.S_IFDIR; old {
			err = nil
		} else {
			over = true
			if err = x.remove(d, base); err == nil {
				err = unix.Mkdirat(d.FD, base, mode&0o777)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("create the directory: %w", err)
	}
	sub, err := x.tree.Enter(d, base)
	if err != nil {
		return err
	}
	defer sub.Release()
	if err := sub.Touch(); err != nil {
		return err
	}
	if over { // what stood here, most often a whiteout, must go on hiding what is below
		if err := x.opaque(sub); err != nil {
			return err
		}
	}
	x.opt.Whiteouts.Named(sub.Path())
	want := m.mode
	if old || mode != m.mode { // it has an owner and a mode that are not those of a new one
		m.mode, m.chmod = mode, true
		m.chown = m.chown || old && !x.noChown
	}
	if err := x.dress(sub.FD, &m); err != nil {
		return err
	}
	m.mode &= want // without what went with an owner that was left out
	sub.Become(m.gid, m.mode, m.times)
	return nil
}

// implied is called for a directory that an entry needed and no entry made.
func (x *extractor) implied(parent *tree.Dir, name string, over bool) error {
	if (!x.fresh.known || parent.GivesGroup(x.fresh.gid)) && !x.noChown {
		if err := unix.Fchownat(parent.FD, name, os.Geteuid(), os.Getegid(), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	if err := unix.Fchmodat(parent.FD, name, 0o755, 0); err != nil { // whatever the umask is
		return err
	}
	if !over {
		return x.opt.Whiteouts.Implied(path.Join(parent.Path(), name))
	}
	x.opt.Whiteouts.Named(path.Join(parent.Path(), name)) // it hides a lower directory
	return x.opaqueAt(parent, name)
}

// clear removes a file that stands where a directory is needed.
func (x *extractor) clear(parent *tree.Dir, name string) error {
	if err := parent.Touch(); err != nil {
		return err
	}
	return x.drop(parent, name)
}

// hardlink creates a hardlink to a file of this layer, and gives the file the metadata of the
// link's header: of several entries of a file the last one counts, as with tar and Docker. As in
// Docker, the target cannot be a file of a lower layer, which is in another directory on the
// disk.
func (x *extractor) hardlink(d *tree.Dir, base, target string, m meta) error {
	clean := path.Clean(strings.TrimLeft(target, "/"))
	if clean == "." || clean == ".." || strings.HasPrefix(clean, "../") {
		return fault.New(fault.Corrupt, "the hardlink's target %s leads out of the layer", tree.Quote(target))
	}
	parent, tbase := path.Split(clean)
	td, err := x.tree.Open(path.Clean(parent), tree.LookOnly)
	var kind uint32
	if err == nil {
		if td == d && tbase == base {
			return fault.New(fault.Corrupt, "a hardlink to itself")
		}
		td.Retain()
		defer td.Release()
		kind, err = linkable(td.FD, tbase)
	}
	if err == nil {
		err = x.replacing(d, base, func() error { return unix.Linkat(td.FD, tbase, d.FD, base, 0) })
	}
	if tree.IsGone(err) && x.absent[clean] {
		x.left.devices.Add(1)
		return nil
	}
	if tree.IsGone(err) {
		return fault.New(fault.Corrupt, "the hardlink's target %s is not in this layer", tree.Quote(target))
	}
	if err != nil {
		return fmt.Errorf("link to %s: %w", tree.Quote(target), err)
	}
	return x.retell(d, base, kind, m)
}

// retell gives a file that has a name already the metadata of another entry. Most
// often it has it, since tar programs repeat the file's header: then nothing has to
// be done, and a capability survives that chown would take away.
func (x *extractor) retell(d *tree.Dir, base string, kind uint32, m meta) error {
	x.out.wait() // what the entry before says is on its way
	var st unix.Stat_t
	if err := unix.Fstatat(d.FD, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	have := st.Mode & 0o7777
	if kind == unix.S_IFLNK { // which keeps its mode and times, with Docker too
		m.mode, m.times = have, [2]unix.Timespec{st.Atim, st.Mtim}
	}
	m.chown = int64(st.Uid) != int64(m.uid) || int64(st.Gid) != int64(m.gid)
	if m.chown && x.noChown { // the file was counted
		if m.chown = false; m.uid != 0 || m.gid != 0 {
			m.mode &^= unix.S_ISUID | unix.S_ISGID
		}
	}
	m.chmod = m.chown || m.mode != have // chown clears bits
	for _, a := range m.xattrs {
		m.chmod = m.chmod || a.name == accessACL
	}
	if !m.chown && !m.chmod && len(m.xattrs) == 0 && st.Atim == m.times[0] && st.Mtim == m.times[1] {
		return nil
	}
	if x.opt.Rootless && len(m.xattrs) > 0 && kind == unix.S_IFREG && have&0o200 == 0 {
		m.chmod = true // as with a new file
		if err := unix.Fchmodat(d.FD, base, have|0o200, 0); err != nil {
			return fmt.Errorf("set the mode %o: %w", have|0o200, err)
		}
	}
	return x.applyAt(d, base, m, m.chmod && kind != unix.S_IFLNK)
}

// linkable returns the type of the file with that name in the layer, as the target of a
// hardlink. It refuses a directory, and a whiteout, which means that the layer has no such file.
func linkable(fd int, name string) (kind uint32, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, err
	}
	kind = st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return 0, fault.Wrap(fault.Corrupt, unix.EISDIR)
	}
	if tree.IsWhiteout(&st) {
		return 0, unix.ENOENT
	}
	return kind, nil
}

// maxAbsent bounds the memory for devices that were left out. Images have dozens.
const maxAbsent = 1 << 12

func (x *extractor) special(d *tree.Dir, base string, m meta, h *tar.Header) error {
	kind, dev := uint32(unix.S_IFIFO), 0
	if h.Typeflag != tar.TypeFifo {
		// Linux has 12 and 20 bits for them, and mknod cuts off the rest: 4096:0
		// would become 0:0, a whiteout.
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return fault.New(fault.Corrupt, "the device number %d:%d is out of range", h.Devmajor, h.Devminor)
		}
		kind = unix.S_IFCHR
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		dev = int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	}
	err := x.replacing(d, base, func() error { return unix.Mknodat(d.FD, base, kind|0o600, dev) })
	if err == unix.EPERM && x.opt.Rootless && h.Typeflag != tar.TypeFifo {
		x.left.devices.Add(1)
		if x.absent == nil {
			x.absent = make(map[string]bool)
		}
		if len(x.absent) < maxAbsent {
			x.absent[path.Join(d.Path(), base)] = true
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("create the device or fifo: %w", err)
	}
	return x.applyAt(d, base, m, true)
}

// replacing runs create, and once more when something was in its way.
func (x *extractor) replacing(d *tree.Dir, base string, create func() error) error {
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
func (x *extractor) remove(d *tree.Dir, base string) error {
	x.tree.Forget() // the path that is open may lead through it
	return x.drop(d, base)
}

// drop deletes a name, and counts the files that are removed with it.
func (x *extractor) drop(d *tree.Dir, name string) error {
	x.out.wait() // sizes of files that are being written are not to be counted
	x.stats.Replaced = x.stats.Replaced || !tree.WhiteoutAt(d.FD, name)
	n, err := tree.RemoveAll(d.FD, name)
	x.stats.Size -= n
	return err
}
