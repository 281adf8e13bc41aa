package decode

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	// go-digest has only the hashes that are linked in.
	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/codec"
)

// ErrDigest is wrapped by the error of a blob that is not what its descriptor
// says, in size or digest. The registry, or the line to it, is at fault, and
// fetching the blob again may help; it never helps against other errors of
// kind [fault.Corrupt].
var ErrDigest = errors.New("the blob is not what the manifest says")

// Expect is what a layer's bytes must turn out to be.
type Expect struct {
	Digest digest.Digest // of the blob
	Size   int64         // of the blob, bytes
	DiffID digest.Digest // of the plain tar
}

// ReaderOptions are the options of [NewReader]. The zero value works.
type ReaderOptions struct {
	// MaxPlain ends a layer that expands to more bytes; 0 means no limit.
	MaxPlain int64
	// Room is asked before each n plain bytes that Read gives for the first time,
	// by its caller's goroutine, if there is room for them: its error is Read's.
	// What Read gave before has been dealt with by then. Nil is fine.
	Room func(n int64) error
	// Fetched is told of n more bytes of the blob that came in, from another
	// goroutine than the caller's. Nil is fine.
	Fetched func(n int64)
	// Arrived is called once when the whole blob is here and verified.
	Arrived func()
	// Gzip chooses the decoder of gzip; "" is [GzipAuto].
	Gzip Gzip
	// Cores are those that may decode ahead while they are idle; they are shared with
	// other layers. Nil lets one goroutine decode.
	Cores *Cores
	// Memory bounds the history that decoders keep; it is shared with other layers.
	Memory *Memory
}

// Buffers: a blob comes in 128 KiB at a time, plain bytes go on 256 KiB at a
// time. The queues are as deep as it takes for the stages not to wait for each
// other's hiccups, and bound a Reader's memory to about 5 MiB. The decoder adds its
// own: 50 MiB where four decode one layer in gzip, 30 with frames of zstd, and what it
// takes from ReaderOptions.Memory.
const (
	blobChunk  = 128 << 10
	blobQueue  = 6
	plainChunk = 256 << 10
	plainQueue = 8
)

// Reader gives the plain tar of a layer. It is for one goroutine, but Close may
// be called from any.
type Reader struct {
	cancel context.CancelCauseFunc
	ctx    context.Context // of the stages; NewReader's, made cancellable
	wg     sync.WaitGroup  // all stages
	blob   func()          // closes the blob, once
	once   sync.Once

	room   func(n int64) error
	plain  chan *chunk // from the decoder
	cur    *chunk
	off    int
	result error         // set before verified is closed
	done   chan struct{} // closed when every stage has ended well or badly
	err    error         // sticky, of Read
	n      atomic.Int64
}

// NewReader starts to decode blob, which it closes at the end. A Read from blob
// that waits must come back when blob is closed. ctx ends everything; the caller
// must call Close in any case.
func NewReader(ctx context.Context, blob io.ReadCloser, want Expect, o ReaderOptions) *Reader {
	ctx, cancel := context.WithCancelCause(ctx)
	r := &Reader{
		ctx: ctx, cancel: cancel,
		blob:  sync.OnceFunc(func() { blob.Close() }),
		room:  o.Room,
		plain: make(chan *chunk, plainQueue),
		done:  make(chan struct{}),
	}
	stop := context.AfterFunc(ctx, r.blob)

	var fetchErr, decodeErr, hashErr error
	var same bool // set before toHash is closed
	compressed := make(chan *chunk, blobQueue)
	toHash := make(chan *chunk, plainQueue)
	r.wg.Go(func() {
		defer close(compressed)
		fetchErr = fetch(ctx, blob, want, o, compressed)
	})
	r.wg.Go(func() {
		defer close(r.plain)
		defer close(toHash)
		src := &source{ctx: ctx, in: compressed}
		same, decodeErr = r.decode(ctx, src, want, o, toHash)
		// A decoder that gave up leaves bytes behind. They still have to be
		// hashed, since a wrong digest is the better explanation.
		src.drain()
	})
	r.wg.Go(func() {
		if err := verifyDiffID(toHash, want.DiffID); !same {
			hashErr = err
		}
	})

	go func() {
		r.wg.Wait()
		stop()
		r.blob()
		switch cause := context.Cause(ctx); {
		case cause != nil:
			r.result = cause
		case fetchErr != nil && errors.Is(fetchErr, ErrDigest) && decodeErr != nil:
			r.result = fmt.Errorf("%w (%w)", fetchErr, decodeErr)
		case fetchErr != nil:
			r.result = fetchErr
		case decodeErr != nil:
			r.result = decodeErr
		default:
			r.result = hashErr
		}
		close(r.done)
	}()
	return r
}

// Read implements [io.Reader]. It returns io.EOF only for a layer that was
// verified as a whole.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	for r.cur == nil {
		c, ok := <-r.plain
		if !ok {
			<-r.done
			r.err = r.result
			if r.err == nil {
				r.err = io.EOF
			}
			return 0, r.err
		}
		if r.room != nil {
			if err := r.room(int64(len(c.b))); err != nil {
				c.release()
				r.err = err
				return 0, err
			}
		}
		r.cur, r.off = c, 0
	}
	n := copy(p, r.cur.b[r.off:])
	r.off += n
	r.n.Add(int64(n))
	if r.off == len(r.cur.b) {
		r.cur.release()
		r.cur = nil
	}
	return n, nil
}

// Count returns how many plain bytes were read so far. It is safe for any
// goroutine.
func (r *Reader) Count() int64 { return r.n.Load() }

// errClosed is what a Reader's stages see when nobody wants their work any more.
var errClosed = errors.New("layer reader closed")

// Close ends all goroutines of the Reader and waits for them.
func (r *Reader) Close() error {
	r.once.Do(func() {
		r.cancel(errClosed)
		r.blob()
	})
	<-r.done
	return nil
}

// fetch reads the blob to its end, hashes it and sends it on. It goes on
// reading when nobody takes the chunks any more, and ends with the context.
func fetch(ctx context.Context, blob io.Reader, want Expect, o ReaderOptions, out chan<- *chunk) error {
	verifier := want.Digest.Algorithm().Hash()
	free := pool(blobQueue + 2)
	var n int64
	for {
		c, err := take(ctx, free, blobChunk)
		if err != nil {
			return err
		}
		got, err := blob.Read(c.b)
		n += int64(got)
		if got > 0 {
			verifier.Write(c.b[:got])
			if o.Fetched != nil {
				o.Fetched(int64(got))
			}
		}
		if n > want.Size {
			return fault.New(fault.Corrupt, "%w: it has more than the %d bytes that it should have", ErrDigest, want.Size)
		}
		if err == io.EOF {
			// Judged before the last bytes go on, so that a decoder which fails
			// on them cannot be the first to speak.
			err = checkBlob(verifier, n, want)
			if err == nil && o.Arrived != nil {
				o.Arrived()
			}
			if err == nil {
				err = io.EOF
			}
		}
		if got > 0 {
			c.b = c.b[:got]
			c.refs.Store(1)
			if err := give(ctx, out, c); err != nil {
				return err
			}
		} else {
			c.home <- c
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func checkBlob(h hash.Hash, n int64, want Expect) error {
	if n != want.Size {
		return fault.New(fault.Corrupt, "%w: it has %d bytes instead of %d", ErrDigest, n, want.Size)
	}
	if got := digest.NewDigest(want.Digest.Algorithm(), h); got != want.Digest {
		return fault.New(fault.Corrupt, "%w: its digest is %s instead of %s", ErrDigest, got, want.Digest)
	}
	return nil
}

// decode runs the decoder over src and hands every buffer to both readers. same
// says that the plain bytes are the blob's, and are hashed as such.
func (r *Reader) decode(ctx context.Context, src *source, want Expect, o ReaderOptions, toHash chan<- *chunk) (same bool, err error) {
	defer o.Cores.layer()()
	dec, err := Decompress(ctx, src, o)
	if err != nil {
		return false, err
	}
	defer dec.Close()
	if dec.Format() == codec.Unknown {
		return false, fault.New(fault.Corrupt, "the blob is no layer: it is neither a tar nor compressed with gzip, zstd, xz or bzip2")
	}
	same = !dec.Format().Compressed() && want.DiffID == want.Digest
	// Every chunk can be in one of the queues, with one of the readers, or here.
	free := pool(plainQueue + 3)
	var total int64
	for {
		c, err := take(ctx, free, plainChunk)
		if err != nil {
			return same, err
		}
		n, err := readSome(dec, c.b)
		total += int64(n)
		if limit := o.MaxPlain; limit > 0 && total > limit {
			return same, fault.WithHint(
				fault.New(fault.Failed, "the layer expands to more than %d bytes, the most that it may have", limit),
				"choose a larger file system, if the image is known to be this large")
		}
		if n == 0 {
			c.home <- c
		} else {
			c.b = c.b[:n]
			c.refs.Store(1)
			if !same {
				c.refs.Store(2)
				if err := give(ctx, toHash, c); err != nil {
					return same, err
				}
			}
			if err := give(ctx, r.plain, c); err != nil {
				return same, err
			}
		}
		if err == io.EOF {
			return same, nil
		}
		if err != nil {
			return same, err
		}
	}
}

// readSome fills most of p before it returns, so that decoders which give a
// little at a time do not cost a hand-over each.
func readSome(r io.Reader, p []byte) (n int, err error) {
	for n < len(p)/2 && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

func verifyDiffID(in <-chan *chunk, want digest.Digest) error {
	h := want.Algorithm().Hash()
	for c := range in {
		h.Write(c.b)
		c.release()
	}
	if got := digest.NewDigest(want.Algorithm(), h); got != want {
		return fault.New(fault.Corrupt, "the layer's content hashes to the diffID %s, the image's config says %s", got, want)
	}
	return nil
}
