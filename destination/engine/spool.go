package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/copying"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// spooled is a layer in a file: a plain tar, and the blob that it came as if the Engine
// gets that as well.
type spooled struct {
	f      *tmpfile.File
	size   int64
	packed *tmpfile.File // nil if it is not sent
}

// newSpooled makes an empty file in dir.
func newSpooled(dir string) (*spooled, error) {
	f, err := scratch(dir)
	if err != nil {
		return nil, err
	}
	return &spooled{f: f}, nil
}

// scratch makes a file for a layer in dir. Another directory would not help a process that may
// not open more files.
func scratch(dir string) (*tmpfile.File, error) {
	f, err := destination.Scratch(dir)
	if err != nil {
		err = fmt.Errorf("make a temporary file in %s: %w", dir, err)
		if !fault.Exhausted(err) {
			err = fault.WithHint(err, "choose another directory with --temp-dir")
		}
	}
	return f, err
}

// Close implements [io.Closer].
func (p *spooled) Close() error {
	var err error
	for _, f := range []*tmpfile.File{p.f, p.packed} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// reader reads the layer from its beginning. Several may at the same time.
func (p *spooled) reader() io.Reader { return io.NewSectionReader(p.f, 0, p.size) }

// get returns the file of a layer.
func (e *engine) get(ctx context.Context, l image.Layer, c *destination.Content, how destination.How) (*spooled, error) {
	return e.spool.Get(ctx, e.run, e.key(l), c.Origin(), func(ctx context.Context) (*spooled, error) {
		p, err := e.fetch(ctx, l, c, how)
		c.End(ctx, err)
		return p, err
	})
}

// fetch fetches a layer into a file, or into two. A blob that is a plain tar takes one.
func (e *engine) fetch(ctx context.Context, l image.Layer, c *destination.Content, how destination.How) (_ *spooled, err error) {
	p, err := newSpooled(e.space.Dir())
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", l.Blob.Digest, e.space.Hint(err))
	}
	defer func() {
		if err != nil {
			err = errors.Join(e.space.Hint(err), p.Close())
		}
	}()
	plain := func(tar io.Reader) (err error) {
		p.size, err = refill(p.f, tar)
		return err
	}
	if !e.form.sendsBlobs() || l.Blob.Digest == l.DiffID {
		return p, c.Plain(ctx, how, plain)
	}
	if p.packed, err = scratch(e.space.Dir()); err != nil {
		return nil, fmt.Errorf("layer %s: %w", l.Blob.Digest, err)
	}
	return p, c.Both(ctx, how, func(blob io.Reader) error {
		_, err := refill(p.packed, blob)
		return err
	}, plain)
}

// refill writes what r has to a file, in place of what that had.
func refill(f *tmpfile.File, r io.Reader) (int64, error) {
	if err := f.Truncate(0); err != nil {
		return 0, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	return copying.Copy(f, r)
}
