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

// ErrDigest is in the error of a blob whose size or digest is not that of its descriptor.
// The registry or the connection has damaged it, and fetching it again may help. That does
// not help against other errors of kind [fault.Corrupt].
var ErrDigest = errors.New("the blob is not what the manifest says")

// Expect has the digests that the bytes of a layer must have.
type Expect struct {
	Digest digest.Digest // of the blob
	Size   int64         // of the blob, bytes
	DiffID digest.Digest // of the plain tar
}

// ReaderOptions are the options of [NewReader]. The zero value works.
type ReaderOptions struct {
	Options

	// MaxPlain ends a layer that expands to more bytes; 0 means no limit.
	MaxPlain int64
	// Reserve is called before Read returns the first of n more plain bytes, on the same
	// goroutine. It returns an error if there is no space for them, and Read returns that
	// error. The caller has processed all bytes before these. Nil is fine.
	Reserve func(n int64) error
	// Fetched is called when n more bytes of the blob were read, on another goroutine.
	// Nil is fine.
	Fetched func(n int64)
	// Arrived is called once, when the whole blob was read and verified. Nil is fine.
	Arrived func()
}

// Buffers: a blob is read 128 KiB at a time, plain bytes are passed on 256 KiB at a time.
// The queues are so long that a stage seldom waits for a short pause of another one. They
// bound the memory of a Reader to about 5 MiB. The decoder has more: 50 MiB if four
// goroutines decode one layer in gzip, 30 MiB for frames of zstd, and what it takes from
// Options.Memory.
const (
	blobChunk  = 128 << 10
	blobQueue  = 6
	plainChunk = 256 << 10
	plainQueue = 8
)

// Reader reads the plain tar of a layer. It is for one goroutine, but Close may be called
// from any.
type Reader struct {
	cancel context.CancelCauseFunc
	ctx    context.Context // of the stages; that of NewReader, with cancel
	wg     sync.WaitGroup  // all stages
	blob   func()          // closes the blob, once
	once   sync.Once

	reserve func(n int64) error
	plain   chan *chunk // from the decoder
	cur     *chunk
	off     int
	result  error         // set before done is closed
	done    chan struct{} // closed when every stage has ended
	err     error         // sticky, of Read
	n       atomic.Int64
}

// NewReader starts to decode blob, and closes it at the end. A Read from blob that waits must
// return when blob is closed. The Reader ends with ctx. The caller must call Close in any
// case.
func NewReader(ctx context.Context, blob io.ReadCloser, want Expect, o ReaderOptions) *Reader {
	ctx, cancel := context.WithCancelCause(ctx)
	r := &Reader{
		ctx: ctx, cancel: cancel,
		blob:    sync.OnceFunc(func() { blob.Close() }),
		reserve: o.Reserve,
		plain:   make(chan *chunk, plainQueue),
		done:    make(chan struct{}),
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
		// If the decoder has failed, the rest of the blob is hashed too: a wrong digest
		// is the better explanation.
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

// Read implements [io.Reader]. It returns [io.EOF] only if the whole layer was verified.
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
		if r.reserve != nil {
			if err := r.reserve(int64(len(c.b))); err != nil {
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

// Count returns how many plain bytes were read so far. It is safe for concurrent use.
func (r *Reader) Count() int64 { return r.n.Load() }

// errClosed ends the stages of a Reader that was closed.
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

// fetch reads the blob to its end, hashes it, and sends it to out. It ends with the context.
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
			// The digest is checked before the last bytes are sent. So its error comes
			// before that of a decoder which fails on them.
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

// decode decodes src, and sends every buffer to Read and to the goroutine that hashes. same
// is true if the blob is the plain tar, whose digest fetch verifies.
func (r *Reader) decode(ctx context.Context, src *source, want Expect, o ReaderOptions, toHash chan<- *chunk) (same bool, err error) {
	defer o.Cores.layer()()
	dec, err := Decompress(ctx, src, o.Options)
	if err != nil {
		return false, err
	}
	defer dec.Close()
	if dec.Format() == codec.Unknown {
		return false, fault.New(fault.Corrupt, "the blob is no layer: it is neither a tar nor compressed with gzip, zstd, xz or bzip2")
	}
	same = !dec.Format().Compressed() && want.DiffID == want.Digest
	// A chunk may be in each place of a queue, with each of the two readers, and here.
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

// readSome fills at least half of p. So a decoder that returns few bytes at a time does not
// cost a switch between goroutines each time.
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
