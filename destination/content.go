package destination

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"github.com/fastpull/fastpull/fetch"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
)

// Content is the content of a layer, which is fetched when a method asks for it. The bytes that
// a callback has read are verified, by digest, size and diffID, only when the method has
// returned nil. If the blob arrived damaged, the method calls the callback again, which starts
// over.
type Content struct {
	fetcher *fetch.Fetcher
	request fetch.Request
	shown   *progress.Display
	task    func() *progress.Task
	fetched *atomic.Int64
}

// NewContent returns the content of a layer of ref. The bytes downloaded are added to
// fetched.
func NewContent(f *fetch.Fetcher, ref registry.Reference, l image.Layer, shown *progress.Display, fetched *atomic.Int64) *Content {
	c := &Content{fetcher: f, request: fetch.Request{Ref: ref, Layer: l}, shown: shown, fetched: fetched}
	c.task = sync.OnceValue(func() *progress.Task {
		return shown.Task(l.Blob.Digest.Encoded()[:12], l.Blob.Size)
	})
	return c
}

// How says how a layer is fetched.
type How struct {
	// Space is that of the file system which takes the content.
	Space *disk.Space
	// Weight decides which layer is fetched first: the heaviest. 0 is the size of the blob.
	Weight int64
	// Turn is closed when the content may be used. The blob is downloaded meanwhile. Nil
	// means at once.
	Turn <-chan struct{}
	// Target is a section for the blob in a file of the destination. Nil downloads it into
	// the run's partial blobs.
	Target registry.Target
	// Have opens the blob where the destination has it; see [fetch.Request]. Nil fetches it.
	Have func(context.Context) (fetch.Blob, error)
}

// Origin names the repository and the blob that the content is from.
func (c *Content) Origin() string {
	return c.request.Ref.Host() + "/" + c.request.Ref.Repository() + "@" + c.request.Layer.Blob.Digest.String()
}

// MayDiffer reports whether a layer with this content may succeed where one with the content
// other has failed: err is about content, which this layer has from elsewhere.
func (c *Content) MayDiffer(ctx context.Context, other *Content, err error) bool {
	return ctx.Err() == nil && ofContent(err) && c.Origin() != other.Origin()
}

// Task returns the layer's line on the display.
func (c *Content) Task() *progress.Task { return c.task() }

// End shows that the layer is complete, that it has failed, or that the run ended before it.
func (c *Content) End(ctx context.Context, err error) { c.Task().Phase(progress.Outcome(ctx, err)) }

// Slot waits for one of the run's slots, for work on the layer that fetches nothing. The
// caller calls release at the end.
func (c *Content) Slot(ctx context.Context) (release func(), err error) {
	if err := c.fetcher.Slots.Acquire(ctx, c.request.Layer.Blob.Size); err != nil {
		return nil, err
	}
	return c.fetcher.Slots.Release, nil
}

// Plain has use read the layer's plain tar, to the end.
func (c *Content) Plain(ctx context.Context, how How, use func(io.Reader) error) error {
	return c.count(c.fetcher.Plain(ctx, c.with(how), use))
}

// Blob has use read the blob as the registry has it, to the end. inTarget is true if it is
// in the Target already.
func (c *Content) Blob(ctx context.Context, how How, use func(r io.Reader, inTarget bool) error) error {
	return c.count(c.fetcher.Blob(ctx, c.with(how), use))
}

// Both has blob and plain read the blob and the plain tar, at the same time and to the
// end. Each byte is downloaded and hashed once.
func (c *Content) Both(ctx context.Context, how How, blob, plain func(io.Reader) error) error {
	return c.count(c.fetcher.Both(ctx, c.with(how), blob, plain))
}

// HasFile reports whether the layer's blob will be in a partial file, which [Content.MoveTo]
// can move.
func (c *Content) HasFile(how How) bool { return c.fetcher.HasFile(c.with(how)) }

// MoveTo makes the file of the layer's blob the file at path, after Plain or Blob has
// returned nil. Nothing is copied. It returns false if that is not possible, as on another
// file system: then Blob reads the blob from its file, and downloads nothing.
func (c *Content) MoveTo(path string, durable bool) (bool, error) {
	return c.fetcher.Partial.MoveTo(c.request.Layer.Blob.Digest, path, durable)
}

func (c *Content) with(how How) fetch.Request {
	q := c.request
	q.Task, q.Space, q.Weight, q.Turn, q.Target, q.Have = c.Task(), how.Space, how.Weight, how.Turn, how.Target, how.Have
	return q
}

func (c *Content) count(n int64, err error) error {
	c.fetched.Add(n)
	return err
}
