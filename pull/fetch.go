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
	if err := r.slots.acquire(ctx, l.Blob.Size); err != nil {
		return 0, err
	}
	release := sync.OnceFunc(r.slots.release)
	defer release()
	task.Phase(progress.Downloading)
	most, err := where.most()
	if err != nil {
		return 0, err
	}
	where.left(l, l.Blob.Size)
	blob, err := r.keep(ctx, ref, l, where)
	if err != nil {
		return 0, err
	}
	a := &arrived{tell: func(n int64) {
		where.came(l, n)
		task.Add(n)
	}}
	if err := await(ctx, blob, turn, a, task, release); err != nil {
		err = errors.Join(err, blob.Close())
		r.fetched.Add(blob.Fetched())
		return blob.Fetched(), err
	}
	task.Phase(progress.Downloading)
	tar := unpack.NewReader(ctx, blob, unpack.Expect{Digest: l.Blob.Digest, Size: l.Blob.Size, DiffID: l.DiffID}, unpack.ReaderOptions{
		MaxPlain: most,
		Room:     where.write,
		Fetched:  a.read,
		Arrived:  func() { task.Phase(progress.Extracting) },
		Gzip:     r.Gzip,
		Cores:    r.cores,
	})
	err = errors.Join(use(tar), tar.Close())
	r.fetched.Add(blob.Fetched())
	switch {
	case err == nil:
		r.keeper.hold(l.Blob.Digest, blob)
	case errors.Is(err, unpack.ErrDigest):
		_ = blob.Distrust() // if it stays, it is not whole, or of no use to the next one either
	case fault.KindOf(err) == fault.Corrupt:
		_ = blob.Discard()
	}
	return blob.Fetched(), err
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
		if err := r.slots.acquire(ctx, l.Blob.Size); err != nil {
			return 0, err
		}
		release := sync.OnceFunc(r.slots.release)
		defer release()
		task.Phase(progress.Downloading)
		b, err := how.open()
		if err != nil {
			return 0, err
		}
		a := &arrived{tell: func(n int64) {
			where.came(l, n)
			task.Add(n)
		}}
		sum := l.Blob.Digest.Verifier()
		if err = await(ctx, b, how.turn, a, task, release); err == nil {
			task.Phase(progress.Downloading)
			err = how.use(b, io.TeeReader(&watched{b, func(n int64) error {
				a.read(n)
				return how.room(n)
			}}, sum))
		}
		if err == nil && !sum.Verified() {
			err = fault.Wrap(fault.Corrupt, fmt.Errorf("%w: it does not hash to its digest", unpack.ErrDigest))
		}
		err = errors.Join(err, b.Close())
		r.fetched.Add(b.Fetched())
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
