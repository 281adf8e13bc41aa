package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/decode"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/internal/openfiles"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/internal/trace"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
)

// Source opens blobs. [registry.Client.Download] has the rules.
type Source interface {
	// Resumable reports whether blobs of a size are downloaded into files.
	Resumable(size int64) bool
	Download(ctx context.Context, ref registry.Reference, d ocispec.Descriptor, in registry.Target, waiting func()) (Blob, error)
}

// Blob is a blob on its way from a source. [registry.Download] has the rules.
type Blob interface {
	io.ReadCloser
	Fetched() int64
	Came() <-chan struct{}
	Whole() (n int64, all bool)
	InSection() bool
	Discard() error
	Distrust() error
	// MoveTo makes the file of a complete and verified blob the file at path. It returns
	// false if the blob has no file, or if that is not possible; see [partial.File.MoveTo].
	MoveTo(path string, durable bool) (bool, error)
}

// Fetcher fetches the layers of a run. Its fields are set before the first call, and
// its methods are safe for concurrent use.
type Fetcher struct {
	Source  Source
	Slots   *Slots
	Cores   *decode.Cores
	Memory  *decode.Memory // of the history of decoders
	Gzip    decode.Gzip
	Partial *PartialBlobs     // nil keeps no blobs on disk
	Notes   *progress.Display // nil shows nothing

	fetched atomic.Int64
	ahead   ahead
}

// New returns a fetcher that works on a number of layers at a time, with as many cores. 0
// layers is one more than this machine has cores, and 4 at least. They are fewer if the
// process may not open the files for as many.
func New(s Source, layers int, gzip decode.Gzip, notes *progress.Display) *Fetcher {
	if layers <= 0 {
		layers = max(4, runtime.NumCPU()+1)
	}
	if fit := openfiles.Layers(layers); fit < layers {
		notes.Note("the process may open %d files: %s at a time, not %d", openfiles.Limit(), text.Count(fit, "layer"), layers)
		layers = fit
	}
	return &Fetcher{
		Source: s, Slots: NewSlots(layers), Cores: decode.NewCores(min(runtime.GOMAXPROCS(0), layers)), Memory: decode.NewMemory(0),
		Gzip: gzip, Notes: notes,
	}
}

// Request names a layer, and how it is fetched.
type Request struct {
	Ref   registry.Reference // the repository that has the blob
	Layer image.Layer
	Task  *progress.Task // of the layer
	Space *disk.Space    // of the file system that takes the content

	// Weight decides which layer gets the next free slot: the heaviest. 0 is the size of the
	// blob.
	Weight int64
	// Turn is closed when the content may be used. The blob is downloaded into a file
	// meanwhile. Nil means at once.
	Turn <-chan struct{}
	// Target is where the caller wants the blob. Nil downloads it into [Fetcher.Partial].
	Target registry.Target
	// Have opens the blob in the destination, if that has it. If Have is nil, the blob comes
	// from the source, and so does a blob that was read damaged. Reading the blob of Have
	// downloads nothing.
	Have func(context.Context) (Blob, error)
}

// Fetched returns how many bytes of blobs were downloaded so far, in all.
func (f *Fetcher) Fetched() int64 { return f.fetched.Load() }

// Plain fetches a layer and has use read its plain tar, to the end. If the blob arrives
// damaged it is fetched once more, and use is called again: it starts over. Plain
// returns the bytes downloaded.
func (f *Fetcher) Plain(ctx context.Context, q Request, use func(io.Reader) error) (n int64, err error) {
	return f.twice(ctx, q, func(q Request) (int64, error) {
		return f.once(ctx, q, progress.Extracting, func(b Blob, c *counter, most int64) error {
			tar := f.decode(ctx, q, b, c, most)
			return errors.Join(use(tar), tar.Close())
		})
	})
}

// Blob fetches a layer and has use read the blob as the registry has it. In other
// respects it is like [Fetcher.Plain]. inTarget is true if the blob is in the request's
// Target already; otherwise use writes it there.
func (f *Fetcher) Blob(ctx context.Context, q Request, use func(r io.Reader, inTarget bool) error) (n int64, err error) {
	return f.twice(ctx, q, func(q Request) (int64, error) {
		return f.once(ctx, q, progress.Verifying, func(b Blob, c *counter, _ int64) error {
			sum := q.Layer.Blob.Digest.Verifier()
			err := use(io.TeeReader(&watched{b, func(n int64) error {
				c.read(n)
				if q.Target != nil {
					return nil // the target is as large as the blob
				}
				return q.Space.Write(n)
			}}, sum), b.InSection())
			if err == nil && !sum.Verified() {
				err = fault.Wrap(fault.Corrupt, fmt.Errorf("%w: it does not hash to its digest", decode.ErrDigest))
			}
			return err
		})
	})
}

// Both fetches a layer and has blob and plain read the blob and the plain tar of it, at
// the same time. Each byte is downloaded and hashed once. Both have to read to the end.
// In other respects it is like [Fetcher.Plain].
func (f *Fetcher) Both(ctx context.Context, q Request, blob, plain func(io.Reader) error) (n int64, err error) {
	return f.twice(ctx, q, func(q Request) (int64, error) {
		return f.once(ctx, q, progress.Extracting, func(b Blob, c *counter, most int64) error {
			pr, pw := io.Pipe()
			done := make(chan error, 1)
			go func() {
				err := blob(pr)
				pr.CloseWithError(errors.Join(err, errUnread))
				done <- err
			}()
			tar := f.decode(ctx, q, &tee{b, pw}, c, most)
			err := errors.Join(plain(tar), tar.Close())
			pw.CloseWithError(errUnread)
			switch berr := <-done; {
			case berr == nil || errors.Is(berr, errUnread):
				return err
			case errors.Is(err, errUnread): // which follows from it
				return berr
			default:
				return errors.Join(berr, err)
			}
		})
	})
}

// errUnread ends one reader of [Fetcher.Both] when the other one stopped early.
var errUnread = errors.New("the other reader of the layer stopped before its end")

// tee also writes the bytes of a blob to w when they are read.
type tee struct {
	io.ReadCloser
	w *io.PipeWriter
}

// Close also ends a Write without a reader.
func (t *tee) Close() error {
	t.w.CloseWithError(errUnread)
	return t.ReadCloser.Close()
}

// Read implements [io.Reader].
func (t *tee) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if n > 0 {
		if _, werr := t.w.Write(p[:n]); werr != nil {
			return n, werr
		}
	}
	if err != nil {
		t.w.CloseWithError(err) // io.EOF is the end of the blob for its reader, too
	}
	return n, err
}

// decode starts to decode a blob.
func (f *Fetcher) decode(ctx context.Context, q Request, b io.ReadCloser, c *counter, most int64) *decode.Reader {
	return decode.NewReader(ctx, b, decode.Expect{Digest: q.Layer.Blob.Digest, Size: q.Layer.Blob.Size, DiffID: q.Layer.DiffID}, decode.ReaderOptions{
		MaxPlain: most,
		Reserve:  q.Space.Write,
		Fetched: func(n int64) {
			c.read(n)
			q.Task.Extracted(n)
		},
		Arrived: func() { q.Task.Phase(progress.Extracting) },
		Options: decode.Options{Gzip: f.Gzip, Cores: f.Cores, Memory: f.Memory},
	})
}

// HasFile reports whether the blob of a request will be in a partial file.
func (f *Fetcher) HasFile(q Request) bool {
	size := q.Layer.Blob.Size
	return q.Target == nil && f.Source.Resumable(size) && f.Partial.fits(q.Space, size)
}

// twice calls once, and calls it again if the blob arrived damaged.
func (f *Fetcher) twice(ctx context.Context, q Request, once func(Request) (int64, error)) (n int64, err error) {
	for again := false; ; again = true {
		got, err := once(q)
		n += got
		if err == nil || again || ctx.Err() != nil || !errors.Is(err, decode.ErrDigest) {
			if err != nil {
				err = fmt.Errorf("layer %s: %w", q.Layer.Blob.Digest, err)
			}
			return n, err
		}
		if q.Have == nil {
			f.Notes.Note("layer %.19s came damaged, fetching it again", q.Layer.Blob.Digest)
		} else {
			f.Notes.Note("the blob of layer %.19s that is there already is damaged, and stays; the layer is fetched. Remove the images that have it, and pull them again", q.Layer.Blob.Digest)
		}
		q.Task.Restart()
		q.Have = nil
	}
}

// once takes a layer from its slot to its end: use reads the blob, and its error decides
// whether the blob is kept. most is how many plain bytes the layer may have. after is the
// phase of a layer whose blob has been downloaded, and is still being read.
func (f *Fetcher) once(ctx context.Context, q Request, after progress.Phase, use func(b Blob, c *counter, most int64) error) (int64, error) {
	soon := f.start(ctx, q)
	if soon != nil {
		defer soon.end()
	}
	if err := f.Slots.Acquire(ctx, cmp.Or(q.Weight, q.Layer.Blob.Size)); err != nil {
		return 0, err
	}
	release := sync.OnceFunc(f.Slots.Release)
	defer release()
	q.Task.Phase(progress.Downloading)
	most, err := q.Space.MostPlain()
	if err != nil {
		return 0, err
	}
	b, err := f.blob(ctx, q, soon)
	if err != nil {
		return 0, err
	}
	c := &counter{report: func(n int64) {
		q.Space.Downloaded(q.Layer.Blob.Digest, n)
		q.Task.Add(n)
	}}
	if kept := found(b); kept > 0 {
		trace.Tell(ctx, "layer %s: %d of %d bytes are kept from an earlier run", q.Layer.Blob.Digest, kept, q.Layer.Blob.Size)
		q.Space.Downloaded(q.Layer.Blob.Digest, kept)
		q.Task.Kept(kept)
		c.found(kept)
	}
	if err = await(ctx, b, q.Turn, c, q.Task, release); err == nil {
		if !whole(b) {
			q.Task.Phase(progress.Downloading) // after the wait
		}
		stop := follow(b, c, func() { q.Task.Phase(after) })
		err = use(b, c, most)
		stop()
	}
	err = errors.Join(err, b.Close())
	f.fetched.Add(b.Fetched())
	f.judge(q, b, err)
	return b.Fetched(), err
}

// found returns how many bytes of a blob were in its file before this run.
func found(b Blob) int64 {
	if b.Came() == nil {
		return 0
	}
	n, _ := b.Whole()
	return n - b.Fetched()
}

// whole reports whether a blob has been downloaded into its file.
func whole(b Blob) bool {
	if b.Came() == nil {
		return false
	}
	_, whole := b.Whole()
	return whole
}

// blob returns the blob of a layer, from soon if that is not nil.
func (f *Fetcher) blob(ctx context.Context, q Request, soon *early) (Blob, error) {
	if soon != nil {
		return soon.wait(ctx)
	}
	return f.open(ctx, q)
}

// open opens the blob of a layer.
func (f *Fetcher) open(ctx context.Context, q Request) (Blob, error) {
	if q.Have != nil {
		return q.Have(ctx)
	}
	in := q.Target
	if in == nil {
		q.Space.SetLeft(q.Layer.Blob.Digest, q.Layer.Blob.Size)
		in = f.Partial.target(q.Space, q.Layer.Blob)
	}
	return f.Source.Download(ctx, q.Ref, q.Layer.Blob, in, func() {
		f.Notes.Note("another fastpull is fetching layer %.19s, reading along", q.Layer.Blob.Digest)
	})
}

// judge decides what becomes of the file of a blob.
func (f *Fetcher) judge(q Request, b Blob, err error) {
	switch {
	case err == nil && q.Target == nil && q.Have == nil:
		f.Partial.add(q.Layer.Blob.Digest, b)
	case errors.Is(err, decode.ErrDigest):
		_ = b.Distrust() // if the file stays, it is incomplete, or useless to the next run as well
	case fault.KindOf(err) == fault.Corrupt && q.Target == nil:
		_ = b.Discard()
	}
}

// watched calls came for the bytes that are read.
type watched struct {
	r    io.Reader
	came func(n int64) error
}

// Read implements [io.Reader].
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		if werr := w.came(int64(n)); werr != nil {
			return 0, werr
		}
	}
	return n, err
}
