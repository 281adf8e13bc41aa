package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxBlob is more than any blob has: 16 TiB.
const maxBlob = 1 << 44

// incomplete is the advice when a part of an image is missing.
const incomplete = "the image is not whole at the registry: it may have been deleted just now, or has to be pushed there again"

// Blob opens the blob that d names in the repository of ref, and returns a reader of its
// bytes. The reader returns exactly d.Size bytes and then io.EOF, or an error. It resumes
// interrupted transfers. It does not hash: the caller verifies d.Digest.
//
// The reader lives as long as ctx, and holds one of Options.Connections until its end or
// Close. A caller that opens several readers must read all of them at the same time. Close may
// be called at any time, also while a Read waits, which it ends.
//
// Errors of Blob and of Read are of kind [fault.NotFound] if the registry has no such blob,
// [fault.Denied] if credentials are missing, and [fault.Corrupt] if digest or size are not
// valid or the registry has another size.
func (c *Client) Blob(ctx context.Context, ref Reference, d ocispec.Descriptor) (io.ReadCloser, error) {
	e, err := blobErrand(ref, d)
	if err != nil {
		return nil, err
	}
	return c.open(ctx, e, d, &sources{blob: d.Digest})
}

func (c *Client) open(ctx context.Context, e errand, d ocispec.Descriptor, s *sources) (*blobReader, error) {
	r := &blobReader{part: c.part(e, d, s)}
	r.ctx, r.cancel = context.WithCancel(ctx)
	if err := r.reopen(r.ctx, nil); err != nil {
		r.cancel()
		return nil, r.explain(err)
	}
	return r, nil
}

// blobErrand checks a descriptor, and describes the request for it.
func blobErrand(ref Reference, d ocispec.Descriptor) (errand, error) {
	e := errand{
		ref: ref, doing: fmt.Sprintf("fetch blob %s of %s", cut(d.Digest.String(), 150), ref.Familiar()),
		missing: "the registry has no such blob", advice: incomplete,
	}
	if err := checkDigest(d.Digest); err != nil {
		return e, fmt.Errorf("%s: %w", e.doing, err)
	}
	if d.Size < 0 || d.Size > maxBlob {
		return e, corrupt("%s: a size of %d bytes cannot be", e.doing, d.Size)
	}
	return e, nil
}

// ReadBlob fetches a small blob, such as an image's config, and verifies its digest. It accepts
// a blob whose size differs from d.Size, and notes that. It does not fetch a blob of more than
// limit bytes. It fetches a damaged blob once more, from another host if there is one.
//
// Errors are those of [Client.Blob]. A wrong digest is of kind [fault.Corrupt].
func (c *Client) ReadBlob(ctx context.Context, ref Reference, d ocispec.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, corrupt("fetch blob %s of %s: %d bytes are more than the limit of %d", cut(d.Digest.String(), 150), ref.Familiar(), d.Size, limit)
	}
	e, err := blobErrand(ref, d)
	if err != nil {
		return nil, err
	}
	twice := func(read func() ([]byte, error)) ([]byte, error) {
		data, err := read()
		if errors.Is(err, errDamaged) {
			data, err = read()
		}
		return data, err
	}
	if d.Size > 0 {
		data, err := twice(func() ([]byte, error) { return c.readBlob(ctx, e, d) })
		if !errors.Is(err, errSize) {
			return data, err
		}
	}
	return twice(func() ([]byte, error) { return c.readUnsized(ctx, e, d, limit) })
}

// readUnsized reads a blob by its digest alone, as its descriptor has no size, or a wrong
// one.
func (c *Client) readUnsized(ctx context.Context, e errand, d ocispec.Descriptor, limit int64) (data []byte, err error) {
	for p := c.patience(); ; {
		err := c.each(ctx, e.ref, false, func(h *host) (err error) {
			data, err = c.readUnsizedAt(p.bear(ctx), h, e.ref, d, limit)
			return err
		})
		if err == nil {
			c.note("blob %.19s of %s has %d bytes, its descriptor says %d", d.Digest, e.ref.Familiar(), len(data), d.Size)
			return data, nil
		}
		if err = p.again(ctx, err); err != nil {
			return nil, e.explain(err)
		}
	}
}

// readUnsizedAt is readUnsized at one host, once. The digest decides: a blob may begin as
// gzip does and be right as it is, so it is unpacked only if it is not.
func (c *Client) readUnsizedAt(ctx context.Context, h *host, ref Reference, d ocispec.Descriptor, limit int64) ([]byte, error) {
	resp, err := c.getAt(ctx, h, ref, "/blobs/"+d.Digest.String(), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(data)) <= limit && d.Digest.Algorithm().FromBytes(data) != d.Digest {
		data, err = unpacked(resp, data, limit+1)
	}
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, corrupt("it has more bytes than the limit of %d", limit)
	}
	if got := d.Digest.Algorithm().FromBytes(data); got != d.Digest {
		return nil, corrupt("%w: it has the digest %s", errDamaged, got)
	}
	return data, nil
}

// errDamaged is in the error of something that arrived complete and is not what its
// digest says. It may have happened on the way.
var errDamaged = errors.New("what came is damaged")

func (c *Client) readBlob(ctx context.Context, e errand, d ocispec.Descriptor) ([]byte, error) {
	s := &sources{blob: d.Digest}
	r, err := c.open(ctx, e, d, s)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if got := d.Digest.Algorithm().FromBytes(data); got != d.Digest {
		s.distrust()
		return nil, corrupt("%s: %w: it has the digest %s", e.doing, errDamaged, got)
	}
	return data, nil
}

// blobReader is a whole blob on its way, by one connection. It holds a context,
// since Read has none.
type blobReader struct {
	*part
	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex // held by Read throughout, so taken after cancel
	err    error      // the end of the reader, io.EOF included
}

// Read implements [io.Reader].
func (r *blobReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.read(r.ctx, p)
	if err != nil {
		if err != io.EOF {
			err = r.explain(err)
		}
		r.err = err
		r.drop()
		r.cancel()
	}
	return n, err
}

// Close ends the transfer. It does not fail.
func (r *blobReader) Close() error {
	r.cancel() // ends a Read in progress, which has the lock
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop()
	r.err = fmt.Errorf("%s: %w", r.doing, fs.ErrClosed)
	return nil
}
