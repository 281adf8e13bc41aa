package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/unpack"
)

// task announces a layer to the user.
func (r *run) task(l image.Layer) *progress.Task {
	return r.Progress.Task(l.Blob.Digest.Encoded()[:12], l.Blob.Size)
}

// fetch opens a layer in its registry and has use read the verified plain tar.
// use must read to the end, and what it did is void if fetch returns an error.
// What it reads goes where there is space. A blob that arrives damaged is fetched
// once more; use is called again, and begins anew.
func (r *run) fetch(ctx context.Context, ref registry.Reference, l image.Layer, task *progress.Task, where *space, use func(*unpack.Reader) error) (n int64, err error) {
	return r.fetchInTurn(ctx, ref, l, task, where, nil, use)
}

// fetchInTurn does as fetch, but has the blob come into a file, if there is one for
// it, and does not call use before turn is closed.
func (r *run) fetchInTurn(ctx context.Context, ref registry.Reference, l image.Layer, task *progress.Task, where *space, turn <-chan struct{}, use func(*unpack.Reader) error) (n int64, err error) {
	return r.twice(ctx, l, task, func() (int64, error) { return r.fetchOnce(ctx, ref, l, task, where, turn, use) })
}

// twice calls once again if a blob comes damaged.
func (r *run) twice(ctx context.Context, l image.Layer, task *progress.Task, once func() (int64, error)) (n int64, err error) {
	for again := false; ; again = true {
		got, err := once()
		n += got
		if err == nil || again || ctx.Err() != nil || !errors.Is(err, unpack.ErrDigest) {
			if err != nil {
				err = fmt.Errorf("layer %s: %w", l.Blob.Digest, err)
			}
			return n, err
		}
		r.Progress.Note("layer %.19s came damaged, fetching it again", l.Blob.Digest)
		task.Restart()
	}
}

func (r *run) fetchOnce(ctx context.Context, ref registry.Reference, l image.Layer, task *progress.Task, where *space, turn <-chan struct{}, use func(*unpack.Reader) error) (int64, error) {
	var most int64
	b, err := r.visit(ctx, l, task, where, turn, func() (_ blob, err error) {
		if most, err = where.most(); err != nil {
			return nil, err
		}
		where.left(l, l.Blob.Size)
		return r.keep(ctx, ref, l, where)
	}, func(b blob, a *arrived) error {
		tar := unpack.NewReader(ctx, b, unpack.Expect{Digest: l.Blob.Digest, Size: l.Blob.Size, DiffID: l.DiffID}, unpack.ReaderOptions{
			MaxPlain: most,
			Room:     where.write,
			Fetched:  a.read,
			Arrived:  func() { task.Phase(progress.Extracting) },
			Gzip:     r.Gzip,
			Cores:    r.cores,
			Memory:   r.memory,
		})
		return errors.Join(use(tar), tar.Close())
	})
	if b == nil {
		return 0, err
	}
	switch {
	case err == nil:
		r.keeper.hold(l.Blob.Digest, b)
	case errors.Is(err, unpack.ErrDigest):
		_ = b.Distrust() // if it stays, it is not whole, or of no use to the next one either
	case fault.KindOf(err) == fault.Corrupt:
		_ = b.Discard()
	}
	return b.Fetched(), err
}

// visit opens a blob when there is a slot for it, has use read it when it is its turn,
// and closes it. The blob is nil if it was not opened.
func (r *run) visit(ctx context.Context, l image.Layer, task *progress.Task, where *space, turn <-chan struct{}, open func() (blob, error), use func(blob, *arrived) error) (blob, error) {
	if err := r.slots.acquire(ctx, l.Blob.Size); err != nil {
		return nil, err
	}
	release := sync.OnceFunc(r.slots.release)
	defer release()
	task.Phase(progress.Downloading)
	b, err := open()
	if err != nil {
		return nil, err
	}
	a := &arrived{tell: func(n int64) {
		where.came(l, n)
		task.Add(n)
	}}
	if err = await(ctx, b, turn, a, task, release); err == nil {
		task.Phase(progress.Downloading)
		err = use(b, a)
	}
	err = errors.Join(err, b.Close())
	r.fetched.Add(b.Fetched())
	return b, err
}

// asIs is how a blob is taken as it is.
type asIs struct {
	open func() (blob, error)            // in its registry, and again if it came damaged
	turn <-chan struct{}                 // closed when it is to be read; nil for now
	room func(n int64) error             // asked before n bytes are used
	use  func(b blob, r io.Reader) error // reads r to its end; begins anew if it is called again
	hold bool                            // it stays in its folder until the run has ended
}

// fetchBlob takes a blob as it is. What was done with it is void if that fails.
func (r *run) fetchBlob(ctx context.Context, l image.Layer, task *progress.Task, where *space, how asIs) (n int64, err error) {
	return r.twice(ctx, l, task, func() (int64, error) {
		b, err := r.visit(ctx, l, task, where, how.turn, how.open, func(b blob, a *arrived) error {
			sum := l.Blob.Digest.Verifier()
			err := how.use(b, io.TeeReader(&watched{b, func(n int64) error {
				a.read(n)
				return how.room(n)
			}}, sum))
			if err == nil && !sum.Verified() {
				err = fault.Wrap(fault.Corrupt, fmt.Errorf("%w: it does not hash to its digest", unpack.ErrDigest))
			}
			return err
		})
		if b == nil {
			return 0, err
		}
		switch {
		case err == nil && how.hold:
			r.keeper.hold(l.Blob.Digest, b)
		case errors.Is(err, unpack.ErrDigest):
			_ = b.Distrust()
		}
		return b.Fetched(), err
	})
}

// watched tells of what is read.
type watched struct {
	r    io.Reader
	came func(n int64) error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		if werr := w.came(int64(n)); werr != nil {
			return 0, werr
		}
	}
	return n, err
}
