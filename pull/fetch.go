package pull

import (
	"context"
	"errors"
	"fmt"

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
	for again := false; ; again = true {
		got, err := r.fetchOnce(ctx, ref, l, task, where, use)
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

func (r *run) fetchOnce(ctx context.Context, ref registry.Reference, l image.Layer, task *progress.Task, where *space, use func(*unpack.Reader) error) (int64, error) {
	if err := r.slots.acquire(ctx, l.Blob.Size); err != nil {
		return 0, err
	}
	defer r.slots.release()
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
	tar := unpack.NewReader(ctx, blob, unpack.Expect{Digest: l.Blob.Digest, Size: l.Blob.Size, DiffID: l.DiffID}, unpack.ReaderOptions{
		MaxPlain: most,
		Room:     where.write,
		Fetched: func(got int64) {
			where.came(l, got)
			task.Add(got)
		},
		Arrived: func() { task.Phase(progress.Extracting) },
		Gzip:    r.Gzip,
		Cores:   r.cores,
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
