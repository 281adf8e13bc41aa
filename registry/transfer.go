package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/internal/partial"
)

const (
	// minChunk is the least that is worth a request of its own.
	minChunk = 1 << 20
	// usualChunk and mostChunk bound a chunk if the user gave no size. Between them a chunk
	// has the bytes of chunkTime, and towards the end those of lastTime.
	usualChunk = 8 << 20
	mostChunk  = 64 << 20
	chunkTime  = 500 * time.Millisecond
	lastTime   = 100 * time.Millisecond
	// helpFrom is how long a blob has to take for others to help with it, and
	// helpFastFrom that of one whose connection brings fastRate in a second: then it
	// is rather the line or the machine that brings no more.
	helpFrom     = time.Second
	helpFastFrom = 5 * time.Second
	fastRate     = 32 << 20
	// plenty is how many complete bytes ahead of its position a reader needs. With so many,
	// helpers would not make it faster.
	plenty = 4 << 20
	// After lookAfter a transfer finds out for the first time if helpers are useful, and then
	// every lookEvery.
	lookAfter = 100 * time.Millisecond
	lookEvery = time.Second
	// extraPause is how long a blob uses one connection after another one has failed. That one
	// may have been one too many for the host.
	extraPause = 2 * time.Second
)

// transfer fills a partial file. The first connection downloads missing bytes from the front,
// and retries. If the blob is large and the host sends ranges, helpers download chunks further
// on. Helpers do not retry: the first connection downloads a chunk at which a helper failed. If
// the user sets no size of chunks, helpers start only for a blob that would take a while without
// them, and whose reader waits for it.
type transfer struct {
	errand
	client  *Client
	desc    ocispec.Descriptor
	sources *sources
	file    *partial.File
	moved   func() // called when there is more of the file

	fetched atomic.Int64 // bytes downloaded
	read    atomic.Int64 // how far the reader has got

	mu    sync.Mutex
	parts []*claim
	done  spent     // by connections that have brought their parts
	late  spent     // the same, of which the later ones count for more
	extra int       // connections beside the first
	pause time.Time // until when there are to be none
}

// claim is a part that a connection has taken over. Its bounds are those at the
// beginning, the end moving up when the host sends more than was asked for.
type claim struct {
	start, end int64
	begun      time.Time
	came       int64
	cancel     context.CancelCauseFunc
}

// errPartialFile is in the error of a partial file that cannot be written.
var errPartialFile = errors.New("write the partial blob")

// run returns when the file is whole.
func (t *transfer) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var extras sync.WaitGroup
	defer extras.Wait()
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel(nil)
	watch.Go(func() { t.endSlow(ctx) })
	patience := t.client.patience()
	patience.others = &t.fetched
	for {
		c := t.take(ctx, false)
		if c == nil {
			// What is left are others' parts, which may come back.
			extras.Wait()
			if t.file.Left() == 0 {
				return nil
			}
			continue
		}
		t.helpers(ctx, &extras, cancel)
		err := t.bring(ctx, c, patience, func() { t.helpers(ctx, &extras, cancel) })
		if err != nil && !errors.Is(err, errSlowRange) {
			if cause := context.Cause(ctx); cause != nil {
				return cause // of a helper, maybe
			}
			return err
		}
	}
}

// helpers starts connections beside the first, as many as there is work for and
// the client allows.
func (t *transfer) helpers(ctx context.Context, extras *sync.WaitGroup, cancel context.CancelCauseFunc) {
	for t.wantsHelp(ctx) {
		extras.Go(func() {
			defer func() {
				t.mu.Lock()
				t.extra--
				t.mu.Unlock()
				<-t.client.extra
			}()
			for {
				c := t.take(ctx, true)
				if c == nil {
					return
				}
				err := t.bring(ctx, c, nil, nil)
				if errors.Is(err, errPartialFile) {
					cancel(err)
				}
				if err != nil && !errors.Is(err, errSlowRange) {
					t.mu.Lock()
					t.pause = time.Now().Add(extraPause)
					t.mu.Unlock()
					return
				}
			}
		})
	}
}

// wantsHelp reports whether to open one more connection, and counts it.
func (t *transfer) wantsHelp(ctx context.Context) bool {
	h, err := t.sources.current(ctx, t.client, t.ref)
	left := t.file.Left()
	if err != nil || ctx.Err() != nil || !h.parallel() || left < 2*minChunk {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client.opt.ChunkSize == 0 && (t.ahead() >= plenty || !t.takesLong(left)) {
		return false
	}
	if start, _ := t.next(); start == t.desc.Size || t.extra+1 >= t.client.perBlob() || time.Now().Before(t.pause) {
		return false
	}
	select {
	case t.client.extra <- struct{}{}:
		t.extra++
		return true
	default:
		return false
	}
}

// parallel reports whether the host may be asked for several ranges at a time.
func (h *host) parallel() bool { return h.ranges.Load() && !h.noRanges.Load() }

// next returns the first missing range that no connection downloads. t.mu is held.
func (t *transfer) next() (start, end int64) {
	for start = 0; ; {
		start, end = t.file.Missing(start)
		i := slices.IndexFunc(t.parts, func(c *claim) bool { return c.start <= start && start < c.end })
		if start == t.desc.Size || i < 0 {
			break
		}
		start = t.parts[i].end
	}
	for _, c := range t.parts {
		if c.start > start {
			end = min(end, c.start)
		}
	}
	return start, end
}

// brought counts the bytes and the time of a connection that has finished its part. t.mu is
// held.
func (t *transfer) brought(s spent) {
	t.done.add(s)
	t.late = spent{t.late.bytes * 3 / 4, t.late.time * 3 / 4}
	t.late.add(s)
}

// rate returns how many bytes a second one connection receives now, or 0 if that is not known
// yet. Later parts count more: the rate may have changed since the blob was begun. t.mu is held.
func (t *transfer) rate() float64 {
	all, now := t.late, time.Now()
	for _, c := range t.parts {
		all.add(c.spent(now))
	}
	if all.bytes == 0 {
		return 0
	}
	return all.rate()
}

// ahead is how much the reader has before it that is whole.
func (t *transfer) ahead() int64 {
	pos := t.read.Load()
	return t.file.Whole(pos, min(pos+plenty, t.desc.Size)) - pos
}

// takesLong reports whether n bytes would take so long that one more connection is worth it.
// t.mu is held.
func (t *transfer) takesLong(n int64) bool {
	rate, from := t.rate(), helpFrom
	if rate >= fastRate {
		from = helpFastFrom
	}
	return rate > 0 && float64(n) > rate*float64(t.extra+1)*from.Seconds()
}

// chunk is how much is asked for at a time: Options.ChunkSize, or what takes a
// connection some time, within bounds. A request costs the host more than its
// bytes. t.mu is held.
func (t *transfer) chunk() int64 {
	if given := t.client.opt.ChunkSize; given > 0 {
		return given
	}
	return int64(min(max(t.rate()*chunkTime.Seconds(), usualChunk), mostChunk))
}

// leastChunk is how small a chunk may become towards the end. t.mu is held.
func (t *transfer) leastChunk() int64 {
	if t.client.opt.ChunkSize > 0 {
		return minChunk
	}
	return int64(min(max(t.rate()*lastTime.Seconds(), minChunk), mostChunk))
}

// take claims the next part to download, nil if there is none. A chunk is
// smaller than usual towards the end, so that the last ones end at about the same
// time. A helper takes only chunks.
func (t *transfer) take(ctx context.Context, helper bool) *claim {
	chunked := t.client.perBlob() > 1 && t.desc.Size >= 2*minChunk
	if helper {
		h, err := t.sources.current(ctx, t.client, t.ref)
		if chunked = err == nil && ctx.Err() == nil && h.parallel(); !chunked {
			return nil
		}
	} else if s := t.sources.known(); s != nil && s.noRanges.Load() {
		chunked = false
	}
	left := t.file.Left()
	t.mu.Lock()
	defer t.mu.Unlock()
	start, end := t.next()
	if start == end {
		return nil
	}
	if chunked {
		size := t.chunk()
		if t.extra > 0 || helper {
			size = min(size, max(left/int64(2*(t.extra+1)), t.leastChunk()))
		}
		size = max(size/t.file.Block(), 1) * t.file.Block()
		if end-start >= size+minChunk/2 { // and no crumbs
			end = start + size
		}
	}
	c := &claim{start: start, end: end, begun: time.Now(), cancel: func(error) {}}
	t.parts = append(t.parts, c)
	return c
}

// bring fetches what c claims into the file. Without patience it is tried once.
// look, unless it is nil, is called now and then while bytes come.
func (t *transfer) bring(ctx context.Context, c *claim, p *patience, look func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t.mu.Lock()
	c.cancel = cancel
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.brought(c.spent(time.Now()))
		t.parts = slices.DeleteFunc(t.parts, func(other *claim) bool { return other == c })
		t.mu.Unlock()
	}()
	r := t.client.part(t.errand, t.desc, t.sources)
	defer r.drop()
	r.pos, r.end, r.patience = c.start, c.end, p
	if p == nil {
		r.patience, r.helper = &patience{}, true
	}
	r.whole = func() { r.end = t.extend(c) }
	w := t.file.Writer(c.start)
	buf := make([]byte, 128<<10)
	next := c.begun
	if t.client.opt.ChunkSize == 0 {
		next = next.Add(lookAfter) // by then something is known of the rate
	}
	for {
		n, err := r.read(ctx, buf)
		if n > 0 {
			if now := time.Now(); look != nil && !now.Before(next) {
				look()
				next = now.Add(lookEvery)
			}
			t.fetched.Add(int64(n))
			t.mu.Lock()
			c.came += int64(n)
			t.mu.Unlock()
			if _, err := w.Write(buf[:n]); err != nil {
				return fmt.Errorf("%w: %w", errPartialFile, err)
			}
			t.moved()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil && errors.Is(context.Cause(ctx), errSlowRange) {
			return errSlowRange
		}
		if err != nil {
			return err
		}
	}
}

// extend lets a part go on to the end of the blob, as the host sends all of it
// anyway, unless others bring the rest.
func (t *transfer) extend(c *claim) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.ContainsFunc(t.parts, func(other *claim) bool { return other.start > c.start }) {
		c.end = t.desc.Size
	}
	return c.end
}
