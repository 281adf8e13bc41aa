package unpack

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/vbatts/tar-split/archive/tar"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/unpack/internal/tree"
)

const errAccess = unix.EACCES

// entry compares what an entry of the tar became, by the rules of extractor.extractEntry.
// It reports whether there is something that can have content.
func (c *checker) entry(h *tar.Header) bool {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	if h.Typeflag == tar.TypeXGlobalHeader || name == "." {
		return c.nowhere(name)
	}
	parent, base := path.Split(name)
	if top, _, _ := strings.Cut(name, "/"); strings.HasPrefix(top, metaPrefix) && name != opaqueName {
		// Of AUFS' own names nothing is left here, and the record says so. Docker keeps
		// some, as its record says, and makes whiteouts of others.
		c.remember(name)
		c.remember(path.Join(parent, strings.TrimPrefix(base, whiteoutPrefix)))
		return c.kept
	}
	c.explain(h, name)
	d, err := c.files.t.Open(path.Clean(parent), tree.LookOnly)
	if deletes := strings.HasPrefix(base, whiteoutPrefix) || isDeletion(h); deletes && errors.Is(err, unix.ENOTDIR) {
		return c.nowhere(name) // what stands there is this layer's own
	}
	if err != nil {
		if !c.lacks(err) && !c.closed(err) {
			c.doubt(h, name, "it is missing: "+err.Error())
		}
		return false
	}
	if c.kept && c.files.t.Astray() {
		c.wrong(name, "its name leads through a symlink out of the layer, where Docker looks for it when it saves the layer")
	}
	d.Retain()
	defer d.Release()
	c.remember(path.Clean(d.Path()))
	switch {
	case base == opaqueName:
		if !d.IsRoot() && !c.Whiteouts.IsOpaque(d.FD) {
			c.wrong(name, "its directory does not hide what the layers below have in it ("+c.Whiteouts.OpaqueXattr()+")")
		}
		return c.nowhere(name)
	case strings.HasPrefix(base, metaPrefix):
		return c.nowhere(name)
	case strings.HasPrefix(base, whiteoutPrefix):
		c.deletion(d, strings.TrimPrefix(base, whiteoutPrefix))
		return c.nowhere(name)
	case isDeletion(h):
		c.deletion(d, base)
		return c.nowhere(name)
	}
	real := path.Join(d.Path(), base)
	c.remember(real)
	var st unix.Stat_t
	if err := unix.Fstatat(d.FD, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if c.lacks(err) {
			return false
		}
		if device := h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock || h.Typeflag == tar.TypeLink; err != unix.ENOENT || !c.Rootless || !device {
			c.doubt(h, real, absent(err))
		}
		return false
	}
	if h.Typeflag == tar.TypeLink {
		c.hardlink(d, base, real, &st, h)
	} else {
		c.node(d, base, real, &st, h)
	}
	return true
}

// nowhere reports an entry that became no file, although the record of the tar says that a file
// has its content. It returns false.
func (c *checker) nowhere(name string) bool {
	if c.kept {
		c.wrong(name, "its content is in no file, so that Docker cannot save the layer")
	}
	return false
}

func absent(err error) string {
	if err == unix.ENOENT {
		return "it is missing"
	}
	return err.Error()
}

// deletion checks a whiteout. There is none where the layer has something itself,
// and none where the directory hides everything.
func (c *checker) deletion(d *tree.Dir, name string) {
	real := path.Join(d.Path(), name)
	c.remember(real)
	var st unix.Stat_t
	err := unix.Fstatat(d.FD, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		return // the whiteout, or a file that another entry checks
	}
	if hides, herr := hidden(c.Whiteouts, d); !c.lacks(herr) && (err != unix.ENOENT || herr != nil || !hides) {
		c.wrong(real, "the whiteout is missing")
	}
}

// hardlink compares the file with its target and with the link's own header: of the
// entries of a file the last one holds.
func (c *checker) hardlink(d *tree.Dir, base, name string, st *unix.Stat_t, h *tar.Header) {
	target := path.Clean(strings.TrimLeft(h.Linkname, "/"))
	if top, _, _ := strings.Cut(target, "/"); !strings.HasPrefix(top, metaPrefix) { // AUFS' files are not kept
		parent, tbase := path.Split(target)
		td, err := c.files.t.Open(path.Clean(parent), tree.LookOnly)
		var to unix.Stat_t
		if err == nil {
			err = unix.Fstatat(td.FD, tbase, &to, unix.AT_SYMLINK_NOFOLLOW)
		}
		if c.lacks(err) {
			return
		}
		if err != nil || to.Dev != st.Dev || to.Ino != st.Ino {
			c.wrong(name, "it is no hardlink to "+tree.Quote(target))
			return
		}
	}
	delete(c.linked, st.Ino)
	problem := c.meta(st, h)
	if problem == "" && st.Mode&unix.S_IFMT == unix.S_IFREG && !c.Rootless {
		problem = attributes(d, base, h)
	}
	if problem != "" {
		c.linked[st.Ino] = [2]string{name, problem}
	}
}

// kinds are the types of files that entries become; others are files.
var kinds = map[byte]uint32{
	tar.TypeDir: unix.S_IFDIR, tar.TypeSymlink: unix.S_IFLNK, tar.TypeChar: unix.S_IFCHR,
	tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO,
}

func (c *checker) node(d *tree.Dir, base, name string, st *unix.Stat_t, h *tar.Header) {
	kind, ok := kinds[h.Typeflag]
	if !ok {
		kind = unix.S_IFREG
	}
	if st.Mode&unix.S_IFMT != kind {
		c.doubt(h, name, "it is of another type: "+kindName(st.Mode))
		return
	}
	switch kind {
	case unix.S_IFLNK:
		to := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(d.FD, base, to)
		if err != nil || string(to[:n]) != h.Linkname {
			c.wrong(name, fmt.Sprintf("it leads to %s, not to %s", tree.Quote(string(to[:max(n, 0)])), tree.Quote(h.Linkname)))
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if want := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)); uint64(st.Rdev) != want { //nolint:unconvert // 32 bit on some platforms
			c.wrong(name, fmt.Sprintf("it is the device %d:%d, not %d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)), h.Devmajor, h.Devminor)) //nolint:unconvert // see above
		}
	case unix.S_IFREG:
		if h.Size == 0 && st.Size != 0 {
			c.wrong(name, fmt.Sprintf("it has %d bytes, not 0", st.Size))
		}
	}
	problem := c.meta(st, h)
	if problem == "" && (kind == unix.S_IFREG || kind == unix.S_IFDIR) && !c.Rootless {
		problem = attributes(d, base, h)
	}
	switch {
	case problem == "":
	case st.Nlink > 1 && kind != unix.S_IFDIR:
		c.linked[st.Ino] = [2]string{name, problem}
	default:
		c.wrong(name, problem)
	}
}

func kindName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symlink"
	case unix.S_IFREG:
		return "a file"
	}
	return "a device, fifo or socket"
}

// meta compares mode, owner and time, and returns what is wrong.
func (c *checker) meta(st *unix.Stat_t, h *tar.Header) string {
	m, err := metaOf(h)
	if err != nil {
		return err.Error()
	}
	kind := st.Mode & unix.S_IFMT
	mask := uint32(0o7777)
	if c.Rootless {
		mask = 0o777
	}
	if kind != unix.S_IFLNK && st.Mode&mask != m.mode&mask {
		return fmt.Sprintf("its mode is %04o, not %04o", st.Mode&mask, m.mode&mask)
	}
	if !c.Rootless && (int64(st.Uid) != int64(m.uid) || int64(st.Gid) != int64(m.gid)) {
		return fmt.Sprintf("its owner is %d:%d, not %d:%d", st.Uid, st.Gid, m.uid, m.gid)
	}
	// Whole seconds: archives of a store may keep no more.
	if have, _ := st.Mtim.Unix(); kind == unix.S_IFREG && have != int64(m.times[1].Sec) { //nolint:unconvert // 32 bit on some platforms
		return "its time of change is another"
	}
	return ""
}

// attributes looks for the extended attributes of an entry. The kernel writes ACLs
// and capabilities in its own way, or as a part of the mode: of capabilities it is
// enough that there are some.
func attributes(d *tree.Dir, base string, h *tar.Header) string {
	for _, a := range attributesOf(h) {
		if strings.HasPrefix(a.name, "system.") {
			continue
		}
		value := make([]byte, len(a.value)+1)
		n, err := unix.Lgetxattr(d.PathOf(base), a.name, value)
		switch {
		case err == unix.ENOTSUP || err == unix.EPERM: // nor could it be set
		case err == unix.ENODATA && a.value == "": // Docker leaves it out before version 29
		case err == unix.ENODATA:
			return "the extended attribute " + tree.Quote(a.name) + " is missing"
		case strings.HasPrefix(a.name, "security."):
		case err != nil || string(value[:n]) != a.value:
			return "the extended attribute " + tree.Quote(a.name) + " is another"
		}
	}
	return ""
}

// strangers looks for files that the tar does not have in the directory dir, open as fd.
func (c *checker) strangers(fd int, dir string) error {
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	names, err := tree.ReadDir(fd)
	if err != nil {
		return err
	}
	for _, base := range names {
		name := path.Join(dir, base)
		if !c.knows(name) {
			c.wrong(name, "the layer does not have it")
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		sub, err := tree.OpenDir(fd, base)
		if err == unix.EACCES && c.Rootless {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		err = c.strangers(sub, name)
		unix.Close(sub)
		if err != nil {
			return err
		}
	}
	return nil
}
