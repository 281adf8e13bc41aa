package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
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
	in := newFeed(ctx, r)
	x := &extractor{
		tree: t, opt: o,
		in:    in,
		tr:    tar.NewReader(in),
		split: newSplitWriter(o.TarSplit),
		buf:   make([]byte, 128<<10),
		late:  make(map[string]lateDir),
	}
	x.tr.RawAccounting = o.TarSplit != nil
	t.made, t.replace = x.implied, x.clear
	defer x.close()

	if err := x.run(); err != nil {
		return x.stats, x.blame(explain(err))
	}
	return x.stats, nil
}

// extractor is the state of one Extract.
type extractor struct {
	tree  *tree
	in    *feed
	tr    *tar.Reader
	split *splitWriter
	opt   ExtractOptions
	buf   []byte
	stats Stats

	late     map[string]lateDir // by dir.path: what is set at the end
	replaced bool               // something was removed again: the running size is not right
	plnk     *dir               // AUFS' hidden hardlink targets, removed at the end
	shadow   shadows
	room     *int64 // left for sparse files; nil before the first
}

func (x *extractor) close() {
	if x.plnk != nil {
		x.plnk.drop()
	}
	x.tree.close()
}

func (x *extractor) run() error {
	for {
		if x.in.ctx.Err() != nil {
			return context.Cause(x.in.ctx)
		}
		h, err := x.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		x.stats.Entries++
		if err := x.entry(h); err != nil {
			return fmt.Errorf("entry %s: %w", quote(h.Name), err)
		}
	}
	if err := x.split.end(x.tr.RawBytes(), x.in); err != nil {
		return err
	}
	return x.finish()
}

// finish does what can only be done when the layer is whole. The directories'
// metadata comes last: what is before it may change times, and not root, may
// not be allowed after it.
func (x *extractor) finish() error {
	x.tree.forget()
	x.tree.real = true
	if err := x.shadow.finish(x); err != nil {
		return err
	}
	if x.plnk != nil {
		if err := removeAll(x.tree.root.fd, plnkDir); err != nil {
			return err
		}
		x.replaced = true
	}
	if x.replaced {
		var err error
		if x.stats.Size, err = sizeOf(x.tree.root.fd); err != nil {
			return fmt.Errorf("measure the layer: %w", err)
		}
	}
	return x.finishDirs()
}

// quote writes the name of an entry for an error. Names can have a megabyte.
func quote(name string) string {
	const most = 256
	if len(name) > most {
		return fmt.Sprintf("%q… (%d bytes)", name[:most], len(name))
	}
	return strconv.Quote(name)
}

// explain adds to an error of the kernel whose fault it is, or what helps.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.ENAMETOOLONG):
		return fault.Wrap(fault.Corrupt, err)
	case errors.Is(err, unix.ENOSPC):
		return fault.WithHint(err, "the file system is full or has no inodes left; see df and df -i")
	case errors.Is(err, unix.EDQUOT):
		return fault.WithHint(err, "the disk quota is used up")
	}
	return err
}

// entry unpacks one entry. The split writer sees every entry with its content,
// whether something is made of it or not.
func (x *extractor) entry(h *tar.Header) error {
	content, err := x.split.entry(h, x.tr)
	if err != nil {
		return err
	}
	if sparse(h) {
		if content, err = x.expand(h, content); err != nil {
			return err
		}
	}
	if err := x.place(h, content); err != nil {
		return err
	}
	if x.split != nil && h.Size > 0 { // without, the tar reader skips the rest by itself
		if _, err := io.CopyBuffer(onlyWriter{io.Discard}, content, x.buf); err != nil {
			return x.tarError(err)
		}
	}
	return x.split.close(x.tr)
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
	if err := d.fits(base); err != nil {
		return err
	}
	switch {
	case base == opaqueName:
		return x.opaque(d)
	case strings.HasPrefix(base, metaPrefix):
		return nil // more of AUFS' own
	case strings.HasPrefix(base, whiteoutPrefix):
		return x.whiteout(d, strings.TrimPrefix(base, whiteoutPrefix), h)
	case h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0:
		return x.whiteout(d, base, h) // overlayfs would take it for one
	}
	return x.node(d, base, h, content)
}

// lateDir is a directory whose metadata cannot be complete before the layer is:
// each file made in it changes its time, and not root, it must stay writable.
type lateDir struct {
	mode         uint32
	atime, mtime time.Time
}

func (x *extractor) finishDirs() error {
	// Those inside before those around them, which may be closed after it.
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(x.late))) {
		l := x.late[name]
		parent, base := path.Split(name)
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
			return fmt.Errorf("%s: %w", name, err)
		}
		if l.mode&0o700 != 0o700 {
			err = unix.Fchmod(fd, l.mode)
		}
		if err == nil {
			err = futimes(fd, l.atime, l.mtime)
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// gone tells the errors of a path that does not lead to a directory.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}
