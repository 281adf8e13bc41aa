package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/vbatts/tar-split/archive/tar"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// ExtractOptions are the options of [Extract].
type ExtractOptions struct {
	// Whiteouts says how a deletion is written down. Required.
	Whiteouts Whiteouts
	// TarSplit receives what Docker needs to make the very tar again: the JSON
	// lines of github.com/vbatts/tar-split, not compressed. Nil: not recorded.
	TarSplit io.Writer
	// Rootless leaves out what only root may do (owners, devices) and counts
	// it in Stats.
	Rootless bool
}

// Stats is what [Extract] did.
type Stats struct {
	Entries int   // of the tar
	Size    int64 // bytes of files and symlinks, a hardlinked one once: Docker's size of a layer
	// NoXattr, NoOwner and NoDevice count what was left out because the file
	// system or the kernel does not allow it.
	NoXattr, NoOwner, NoDevice int
}

// Extract unpacks the plain tar r, one layer, into the empty directory root, and
// reads r to its end. It works on this one goroutine. Errors of kind
// [fault.Corrupt] name the entry and the rule that it breaks. After an error
// the directory holds a part of the layer and is to be thrown away.
//
// Nobody else may change root meanwhile: it is expected to be in a place that
// only this process writes to.
func Extract(ctx context.Context, r io.Reader, root string, o ExtractOptions) (Stats, error) {
	t, err := openTree(root)
	if err != nil {
		return Stats{}, err
	}
	x := &extractor{
		tree: t, opt: o,
		tr:    tar.NewReader(r),
		split: newSplitWriter(o.TarSplit),
		buf:   make([]byte, 128<<10),
	}
	x.tr.RawAccounting = o.TarSplit != nil
	t.made, t.replace = x.implied, x.clear
	defer x.close()

	if err := x.run(ctx, r); err != nil {
		return x.stats, err
	}
	if x.replaced {
		if x.stats.Size, err = sizeOf(x.tree.root.fd); err != nil {
			return x.stats, fmt.Errorf("measure %s: %w", root, err)
		}
	}
	return x.stats, nil
}

// extractor is the state of one Extract.
type extractor struct {
	tree  *tree
	tr    *tar.Reader
	split *splitWriter
	opt   ExtractOptions
	buf   []byte
	stats Stats

	late     []lateDir // directories whose times, and some modes, are set at the end
	replaced bool      // something was removed again: the running size is not right
	plnk     *dir      // AUFS' hidden hardlink targets, removed at the end
	shadow   shadows
}

func (x *extractor) close() {
	if x.plnk != nil {
		removeAll(x.tree.root.fd, plnkDir)
		x.plnk.drop()
	}
	x.tree.close()
}

func (x *extractor) run(ctx context.Context, r io.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := x.tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return tarError(err)
		}
		x.stats.Entries++
		if err := x.entry(h); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
	if err := x.split.end(x.tr.RawBytes(), r); err != nil {
		return err
	}
	if err := x.finishDirs(); err != nil {
		return err
	}
	return x.shadow.finish(x)
}

// tarError classifies an error of the tar reader: what its source said passes
// through, what it found itself is the layer's fault.
func tarError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrFieldTooLong) {
		return fault.New(fault.Corrupt, "the layer is no valid tar: %w", err)
	}
	return fmt.Errorf("read the layer's tar: %w", err)
}

// entry unpacks one entry. The split writer sees every entry with its content,
// whether something is made of it or not.
func (x *extractor) entry(h *tar.Header) error {
	content, err := x.split.entry(h, x.tr)
	if err != nil {
		return err
	}
	if err := x.place(h, content); err != nil {
		return err
	}
	return x.split.close(x.tr, content, x.buf)
}

// place decides what an entry is, and where it goes.
func (x *extractor) place(h *tar.Header, content io.Reader) error {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	switch {
	case h.Typeflag == tar.TypeXGlobalHeader:
		return nil
	case name == ".":
		return nil // the root belongs to the store, as in Docker
	case name == ".." || strings.HasPrefix(name, "../"):
		return fault.New(fault.Corrupt, "the name leads out of the layer")
	}
	parent, base := path.Split(name)
	parent = path.Clean(parent)

	if top, _, _ := strings.Cut(name, "/"); strings.HasPrefix(top, metaPrefix) && name != opaqueName {
		return x.aufs(h, top, base, content)
	}
	if len(name) >= unix.PathMax {
		return fault.New(fault.Corrupt, "the name has %d bytes, more than a path can have", len(name))
	}
	d, err := x.tree.open(parent, true)
	if err != nil {
		return err
	}
	d.keep() // what follows may make the tree forget it
	defer d.drop()
	switch {
	case base == opaqueName:
		return x.opaque(d, parent)
	case strings.HasPrefix(base, metaPrefix):
		return nil // more of AUFS' own
	case strings.HasPrefix(base, whiteoutPrefix):
		return x.whiteout(d, parent, strings.TrimPrefix(base, whiteoutPrefix), h)
	case h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0:
		return x.whiteout(d, parent, base, h) // overlayfs would take it for one
	}
	return x.node(d, base, name, h, content)
}

// lateDir is a directory whose metadata cannot be complete before the layer is:
// each file made in it changes its time, and not root, it must stay writable.
type lateDir struct {
	name         string
	mode         uint32
	atime, mtime time.Time
}

func (x *extractor) finishDirs() error {
	for _, l := range x.late {
		parent, base := path.Split(l.name)
		d, err := x.tree.open(path.Clean(parent), false)
		if err != nil {
			if gone(err) {
				continue // replaced by a later entry
			}
			return err
		}
		fd, err := openDir(d.fd, base)
		if err != nil {
			if gone(err) {
				continue
			}
			return fmt.Errorf("%s: %w", l.name, err)
		}
		if l.mode&0o700 != 0o700 {
			err = unix.Fchmod(fd, l.mode)
		}
		if err == nil {
			err = futimes(fd, l.atime, l.mtime)
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

// gone tells the errors of a path that does not lead to a directory.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}
