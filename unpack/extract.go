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
	"github.com/fastpull/fastpull/internal/nameset"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/unpack/internal/tarsplit"
	"github.com/fastpull/fastpull/unpack/internal/tree"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// ExtractOptions are the options of [Extract].
type ExtractOptions struct {
	// Whiteouts is the form in which deletions are kept. Required.
	Whiteouts whiteout.Form
	// TarSplit receives what Docker needs to make the very tar again: the JSON
	// lines of github.com/vbatts/tar-split, not compressed. Nil: not recorded.
	TarSplit io.Writer
	// Rootless leaves out what the kernel refuses (owners, devices, attributes)
	// and counts it in Stats. Otherwise that is an error.
	Rootless bool
	// Wrote is told how many bytes were written to files, for a caller that has the disk work
	// meanwhile. It is called often, and by several goroutines at a time. Nil: nothing is told.
	Wrote func(bytes int)
	// Names bounds the names that are kept for TarSplit. It is shared with other layers.
	// Nil bounds those of this layer only.
	Names *nameset.Budget
}

// Stats is what [Extract] did.
type Stats struct {
	Entries int   // of the tar
	Size    int64 // bytes of files and symlinks, a hardlinked one once: Docker's size of a layer
	// Replaced says that an entry took the place of a file, symlink or directory of an
	// earlier one. Then it takes a try to know if the tar can be made again of TarSplit
	// and the files.
	Replaced bool
	// NoXattr, NoOwner and NoDevice count what was left out because the file
	// system or the kernel does not allow it.
	NoXattr, NoOwner, NoDevice int
	// NoSetgid counts files whose setgid bit was left out: without CAP_FSETID the kernel
	// clears it for groups that this process is not in.
	NoSetgid int
	// UIDs and GIDs are the owners of the entries, in ascending order. They are nil if there
	// are more than a few thousand.
	UIDs, GIDs []uint32
	// Root is the last entry that describes the root directory, which Extract leaves as it
	// is. Nil if there is none.
	Root *Root
}

// Root describes the root directory of a layer.
type Root struct {
	UID, GID int
	Mode     uint32 // permissions, and the setuid, setgid and sticky bits
	ModTime  time.Time
}

// maxEntries bounds the memory for the names that a layer has had.
const maxEntries = 1 << 24

// Extract unpacks the plain tar r of one layer into the empty directory root, and reads r to
// its end. Errors of kind [fault.Corrupt] name the entry and the rule that it breaks. After an
// error root has a part of the layer, and the caller removes it.
//
// No other process may change root meanwhile: the caller chooses a directory that only this
// process writes to. The goroutines of Extract have ended when it returns.
func Extract(ctx context.Context, r io.Reader, root string, o ExtractOptions) (Stats, error) {
	t, err := tree.Open(root)
	if err != nil {
		return Stats{}, err
	}
	defer t.Close()
	in := newFeed(ctx, r)
	x := &extractor{
		tree: t, opt: o,
		in:    in,
		tr:    tar.NewReader(in),
		split: tarsplit.NewWriter(o.TarSplit, o.Names),
		fresh: probe(t.Root.FD),
		space: space{fd: t.Root.FD},
	}
	if o.Rootless {
		rights := privilege.Current()
		_, x.noChown = rights.Missing(privilege.ForOwners...)
		x.noSetgid = !rights.Has(privilege.Fsetid)
	}
	x.out = newWriters(x.complete, o.Wrote)
	x.space.wait = x.out.wait
	t.Made, t.Replace, t.Unlock = x.implied, x.clear, o.Rootless

	err = x.run()
	// Files are whole, and directories as they should be, only after this.
	if cerr := x.finish(); err == nil {
		err = cerr
	}
	stats := x.stats
	stats.UIDs, stats.GIDs = x.uids.list(), x.gids.list()
	stats.NoXattr, stats.NoOwner, stats.NoDevice = int(x.left.xattrs.Load()), int(x.left.owners.Load()), int(x.left.devices.Load())
	stats.NoSetgid = int(x.left.setgid.Load())
	if err != nil {
		return stats, x.blame(x.space.explain(err))
	}
	return stats, nil
}

// extractor is the state of one Extract. It creates names in the order of the tar. out writes
// contents and metadata.
type extractor struct {
	tree    *tree.Tree
	in      *feed
	tr      *tar.Reader
	split   *tarsplit.Writer
	out     *writers
	opt     ExtractOptions
	noChown bool // no file is given to another owner
	// noSetgid says that setgid bits may be cleared silently.
	noSetgid bool
	fresh    fresh
	space    space
	stats    Stats
	uids     ids
	gids     ids
	left     left
	// absent has the devices that were left out, which hardlinks can name.
	absent map[string]bool
	plnk   *tree.Dir // AUFS' hidden hardlink targets, removed at the end
	read   bool      // the content of the entry at hand became a file …
	astray bool      // … that Docker does not find by the entry's name
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
		if x.stats.Entries++; x.stats.Entries > maxEntries {
			return tooManyEntries()
		}
		err = x.entry(h)
		if ferr := x.out.failure(); ferr != nil { // of a file that came before
			return ferr
		}
		if err != nil {
			return fmt.Errorf("entry %s: %w", tree.Quote(h.Name), err)
		}
	}
	return x.split.Tail(x.in)
}

// finish ends all work in progress, after an error too.
func (x *extractor) finish() error {
	err := x.out.close()
	if serr := x.split.Close(); err == nil {
		err = serr
	}
	if x.plnk != nil {
		x.plnk.Release()
		n, rerr := tree.RemoveAll(x.tree.Root.FD, plnkDir)
		x.stats.Size -= n
		if err == nil {
			err = rerr
		}
	}
	x.tree.Forget()
	if err == nil {
		err = x.tree.Err()
	}
	return err
}

// entry unpacks one entry. The split writer sees every entry with its content,
// whether something is made of it or not.
func (x *extractor) entry(h *tar.Header) error {
	if err := x.split.Begin(h); err != nil {
		return err
	}
	content := io.Reader(x.tr)
	if tarsplit.Sparse(h) {
		// Its holes are read from nowhere, and so past the feed.
		content = ctxReader{x.in.ctx, content}
		if err := x.space.expand(h.Size); err != nil {
			return err
		}
		if x.split != nil {
			x.in.tee = x.split.Record
			defer func() { x.in.tee = nil }()
		}
	}
	x.uids.add(h.Uid)
	x.gids.add(h.Gid)
	x.read, x.astray = false, false
	if err := x.extractEntry(h, content); err != nil {
		return err
	}
	if x.split != nil && !x.read && tarsplit.ContentSize(h) > 0 { // without, the tar reader skips the rest by itself
		if _, err := io.CopyBuffer(onlyWriter{io.Discard}, x.split.Drop(content), x.in.scratch()); err != nil {
			return x.tarError(err)
		}
	}
	return x.split.End()
}

// extractEntry extracts one entry by the rules of its kind.
func (x *extractor) extractEntry(h *tar.Header, content io.Reader) error {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	switch {
	case h.Typeflag == tar.TypeXGlobalHeader:
		return nil
	case name == ".":
		x.root(h) // it belongs to the store, as in Docker
		return nil
	case name == ".." || strings.HasPrefix(name, "../"):
		return fault.New(fault.Corrupt, "the name leads out of the layer")
	}
	if top, _, _ := strings.Cut(name, "/"); strings.HasPrefix(top, metaPrefix) && name != opaqueName {
		return x.aufs(h, top, path.Base(name), content)
	}
	if len(name) >= unix.PathMax {
		return fault.New(fault.Corrupt, "the name has %d bytes, more than a path can have", len(name))
	}
	// The name is a part of a PAX header, which can have a megabyte, and parts of
	// the name are kept with the directories that are open.
	name = strings.Clone(name)
	parent, base := path.Split(name)
	deletes := strings.HasPrefix(base, whiteoutPrefix) || isDeletion(h)
	how := tree.ReplaceFiles
	if deletes {
		how = tree.MakeMissing
	}
	d, err := x.tree.Open(path.Clean(parent), how)
	if deletes && errors.Is(err, unix.ENOTDIR) {
		// A file of this layer stands there, and hides what is below it already: a
		// deletion is about lower layers only (layer.md).
		return nil
	}
	if err != nil {
		return err
	}
	x.astray = x.tree.Astray()
	d.Retain() // what follows may make the tree forget it
	defer d.Release()
	if err := d.Fits(base); err != nil {
		return err
	}
	if err := d.Touch(); err != nil {
		return err
	}
	switch {
	case base == opaqueName:
		return x.opaque(d)
	case strings.HasPrefix(base, metaPrefix):
		return nil // more of AUFS' own
	case strings.HasPrefix(base, whiteoutPrefix):
		return x.whiteout(d, strings.TrimPrefix(base, whiteoutPrefix), h)
	case isDeletion(h):
		return x.whiteout(d, base, h)
	}
	return x.node(d, base, h, content)
}

// aufs handles what AUFS kept for itself at the top of a layer. Of that only
// the files of plnk matter: later entries are hardlinks to them. They are kept
// until the end in a directory that no entry can name.
func (x *extractor) aufs(h *tar.Header, top, base string, content io.Reader) error {
	if top != plnkDir || h.Typeflag != tar.TypeReg || strings.HasPrefix(base, whiteoutPrefix) {
		return nil
	}
	if x.plnk == nil {
		// A symlink can have led here before.
		if err := unix.Mkdirat(x.tree.Root.FD, plnkDir, 0o700); err != nil && err != unix.EEXIST {
			return err
		}
		d, err := x.tree.Sub(x.tree.Root, plnkDir)
		if err != nil {
			return err
		}
		x.plnk = d
	}
	if err := x.plnk.Touch(); err != nil {
		return err
	}
	x.astray = true // once the directory is gone
	return x.node(x.plnk, base, h, content)
}
