package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"regexp"
	"strconv"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// maxBlob is more than any blob has: 16 TiB.
const maxBlob = 1 << 44

// incomplete is the advice when a part of an image is missing.
const incomplete = "the image is not whole at the registry: it may have been deleted just now, or has to be pushed there again"

// Blob opens the blob that d names in the repository of ref, and returns its
// bytes as they come. An interrupted transfer is resumed inside Read. The
// reader gives exactly d.Size bytes and then io.EOF, or an error; hashing them
// is up to the caller, d.Digest only says which.
//
// The reader lives as long as ctx, and holds one of Options.Connections until
// it is at its end or closed: a caller who opens several must read all of them
// and not one after the other. Close may be called at any time, also while a
// Read is blocked, which it ends.
//
// Errors, from Blob and from Read, are of kind [fault.NotFound] when the
// registry has no such blob, [fault.Denied] when credentials are lacking, and
// [fault.Corrupt] when digest or size cannot be or the registry has another
// size.
func (c *Client) Blob(ctx context.Context, ref Reference, d ocispec.Descriptor) (io.ReadCloser, error) {
	r := &blobReader{
		client: c, desc: d, patience: c.patience(),
		errand: errand{
			ref: ref, doing: fmt.Sprintf("fetch blob %s of %s", cut(d.Digest.String(), 150), ref.Familiar()),
			missing: "the registry has no such blob", advice: incomplete,
		},
	}
	if err := checkDigest(d.Digest); err != nil {
		return nil, fmt.Errorf("%s: %w", r.doing, err)
	}
	if d.Size < 0 || d.Size > maxBlob {
		return nil, fault.New(fault.Corrupt, "%s: a size of %d bytes cannot be", r.doing, d.Size)
	}
	r.ctx, r.cancel = context.WithCancel(ctx)
	if err := r.reopen(nil); err != nil {
		r.cancel()
		return nil, r.explain(err)
	}
	return r, nil
}

// ReadBlob fetches a small blob, such as an image's configuration, whole, and
// verifies its size and digest. One of more than limit bytes is not fetched.
// Errors are those of [Client.Blob], a wrong digest being [fault.Corrupt].
func (c *Client) ReadBlob(ctx context.Context, ref Reference, d ocispec.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fault.New(fault.Corrupt, "fetch blob %s of %s: %d bytes are more than the limit of %d", cut(d.Digest.String(), 150), ref.Familiar(), d.Size, limit)
	}
	r, err := c.Blob(ctx, ref, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if got := d.Digest.Algorithm().FromBytes(data); got != d.Digest {
		return nil, fault.New(fault.Corrupt, "fetch blob %s of %s: what came has the digest %s", d.Digest, ref.Familiar(), got)
	}
	return data, nil
}

// blobReader is a blob on its way. It holds a context, since Read has none.
type blobReader struct {
	errand
	client *Client
	desc   ocispec.Descriptor
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex // held by Read throughout, so taken after cancel
	hosts    []*host    // where the blob is to be had, in order
	at       int        // the one of hosts that is asked
	came     bool       // bytes, from that one since it was last asked
	patience *patience
	resp     *http.Response // nil between an interruption and the next try
	broken   error          // what the interruption was
	pos      int64
	err      error // the end of the reader, io.EOF included
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
	n, err := r.read(p)
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

func (r *blobReader) read(p []byte) (int, error) {
	for {
		if r.pos == r.desc.Size {
			return 0, r.finish()
		}
		if r.resp == nil {
			if err := r.reopen(r.broken); err != nil {
				return 0, err
			}
		}
		n, err := r.resp.Body.Read(p[:min(int64(len(p)), r.desc.Size-r.pos)])
		r.pos += int64(n)
		if n > 0 {
			r.came = true
			r.patience.progress()
		}
		if err != nil && r.pos < r.desc.Size {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			r.drop()
			r.broken = fmt.Errorf("at byte %d of %d: %w", r.pos, r.desc.Size, err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// finish returns io.EOF if the blob ends where it should. Where the registry
// told a length, that has been compared; else it shows in one more byte.
func (r *blobReader) finish() error {
	if r.resp != nil && r.resp.ContentLength < 0 {
		var more [1]byte
		if n, _ := io.ReadFull(r.resp.Body, more[:]); n > 0 {
			return r.wrongSize("more")
		}
	}
	return io.EOF
}

func (r *blobReader) wrongSize(what string) error {
	return fault.New(fault.Corrupt, "the registry has %s bytes than the %d that the descriptor says", what, r.desc.Size)
}

// reopen asks for the rest of the blob until it comes or patience ends. Broken
// is why the last transfer ended, nil for the first. A host that brought
// nothing, or something wrong, is given up for the next one.
func (r *blobReader) reopen(broken error) error {
	if r.hosts == nil {
		hosts, err := r.client.endpoints(r.ctx, r.ref)
		if err != nil {
			return err
		}
		r.hosts = hosts
	}
	for err := broken; ; {
		if err != nil && r.at < len(r.hosts)-1 && !(r.came && worthRetrying(err)) && r.ctx.Err() == nil {
			r.hosts[r.at].failed(err)
			r.at++
			err = nil
		}
		if err != nil {
			if err = r.patience.again(r.ctx, err); err != nil {
				return err
			}
		}
		r.came = false
		if err = r.open(); err == nil {
			return nil
		}
		r.drop()
	}
}

// errBadRange is an answer to a request for a range that is not that range.
var errBadRange = errors.New("the registry gets ranges wrong")

// open asks once. The range is a closed one, as some servers refuse the other.
func (r *blobReader) open() error {
	h, size := r.hosts[r.at], r.desc.Size
	ranged := r.pos > 0 && !h.noRanges.Load()
	header := http.Header{}
	if ranged {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", r.pos, size-1))
	}
	resp, err := r.client.getAt(r.ctx, h, r.ref, "/blobs/"+r.desc.Digest.String(), header)
	var status *statusError
	if ranged && errors.As(err, &status) && status.code == http.StatusRequestedRangeNotSatisfiable {
		h.noRanges.Store(true)
		return fmt.Errorf("%w: 416 for bytes %d-%d of %d", errBadRange, r.pos, size-1, size)
	}
	if err != nil {
		return err
	}
	r.resp = resp

	if resp.StatusCode == http.StatusPartialContent {
		if got := resp.Header.Get("Content-Range"); !ranged || !rangeFits(got, resp.ContentLength, r.pos, size) {
			h.noRanges.Store(true)
			return fmt.Errorf("%w: asked for bytes %d-%d of %d, got %q", errBadRange, r.pos, size-1, size, cut(got, 60))
		}
		return nil
	}
	if resp.ContentLength > size {
		return r.wrongSize("more")
	}
	if resp.ContentLength >= 0 && resp.ContentLength < size {
		return r.wrongSize("fewer")
	}
	// The whole blob, from the beginning: what the caller has is not progress.
	if n, err := io.CopyN(io.Discard, resp.Body, r.pos); err != nil {
		return fmt.Errorf("at byte %d of %d, again: %w", n, size, err)
	}
	return nil
}

// rangeFits reports whether a Content-Range begins at pos and ends within a
// blob of size bytes, and whether length, if known, agrees. It may end early:
// the rest is then asked for.
func rangeFits(contentRange string, length, pos, size int64) bool {
	m := rangePattern.FindStringSubmatch(contentRange)
	if m == nil {
		return false
	}
	first, err1 := strconv.ParseInt(m[1], 10, 64)
	last, err2 := strconv.ParseInt(m[2], 10, 64)
	return err1 == nil && err2 == nil &&
		first == pos && last >= first && last < size &&
		(m[3] == "*" || m[3] == strconv.FormatInt(size, 10)) &&
		(length < 0 || length == last-first+1)
}

var rangePattern = regexp.MustCompile(`^bytes (\d+)-(\d+)/(\d+|\*)$`)

// drop gives up the connection, if there is one.
func (r *blobReader) drop() {
	if r.resp != nil {
		r.resp.Body.Close()
		r.resp = nil
	}
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
