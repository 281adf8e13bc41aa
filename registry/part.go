package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/internal/trace"
)

// part downloads a part of a blob, or the whole blob, over one connection at a time. It resumes
// after the last byte when a connection breaks. It is for one goroutine.
type part struct {
	errand
	client   *Client
	desc     ocispec.Descriptor
	sources  *sources
	patience *patience

	pos, end int64  // what is yet to come
	helper   bool   // others of the same blob have the patience, and choose the host
	whole    func() // told when the whole blob comes, whatever was asked for

	at     *host          // the host that was asked last
	came   bool           // something, since then
	resp   *http.Response // nil between an interruption and the next try
	broken error          // what the interruption was
}

// part returns one that is the whole blob.
func (c *Client) part(e errand, d ocispec.Descriptor, s *sources) *part {
	return &part{errand: e, client: c, desc: d, sources: s, patience: c.patience(), end: d.Size}
}

// read is as [io.Reader] has it, with io.EOF at the end of the part.
func (r *part) read(ctx context.Context, p []byte) (int, error) {
	for {
		if r.pos == r.end {
			return 0, r.finish()
		}
		if r.resp == nil {
			if err := r.reopen(ctx, r.broken); err != nil {
				return 0, err
			}
		}
		n, err := r.resp.Body.Read(p[:min(int64(len(p)), r.end-r.pos)])
		r.pos += int64(n)
		if n > 0 {
			r.came = true
			r.patience.progress(n)
		}
		if err != nil && r.pos < r.end {
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

// finish returns io.EOF if the blob ends where it should. A length that the registry has told, also
// in a Content-Range, was compared before. Otherwise one more byte shows that the blob is larger.
func (r *part) finish() error {
	if r.resp != nil && r.resp.StatusCode == http.StatusOK && r.resp.ContentLength < 0 && r.end == r.desc.Size {
		var more [1]byte
		if n, _ := io.ReadFull(r.resp.Body, more[:]); n > 0 {
			return r.wrongSize("more")
		}
	}
	return io.EOF
}

func (r *part) wrongSize(what string) error {
	return corrupt("%w: the registry has %s bytes than the %d that the descriptor says", errSize, what, r.desc.Size)
}

// reopen asks for the rest of the part until it comes or patience ends. Broken
// is why the last transfer ended, nil for the first. A host that brought nothing,
// or something wrong, is given up for the next one if there is one.
func (r *part) reopen(ctx context.Context, broken error) error {
	for err := broken; ; {
		if err != nil && ctx.Err() == nil && !r.helper && !(r.came && worthRetrying(err)) && r.sources.leave(r.at, err) {
			trace.Tell(ctx, "blob %s comes from the next host: %v", r.desc.Digest, err)
			err = nil
		}
		if err != nil {
			if r.at != nil && r.at.answered.Load() {
				r.patience.reached = true
			}
			if err = r.patience.again(ctx, err); err != nil {
				return err
			}
		}
		r.came = false
		if err = r.open(r.patience.bear(ctx)); err == nil {
			return nil
		}
		r.drop()
	}
}

// errSize is in the error for a blob that has another size than its descriptor says.
var errSize = errors.New("wrong size")

// refusesRange reports whether an error means that the host refuses ranges. Firewalls and caches
// do that with many statuses. So any failure counts if the host has not sent a range yet, and a
// request without a range then shows the real error. Statuses that ask for a login, or to try
// again later, do not count. Status 416 always counts.
func (h *host) refusesRange(err error) bool {
	return isStatus(func(s *statusError) bool {
		switch s.code {
		case http.StatusRequestedRangeNotSatisfiable:
			return true
		case http.StatusUnauthorized, http.StatusProxyAuthRequired:
			return false
		case http.StatusInternalServerError:
		default:
			if s.code < http.StatusBadRequest || statusTemporary(s) {
				return false
			}
		}
		return !s.handshake() && !h.ranges.Load()
	})(err)
}

// errBadRange is an answer to a request for a range that is not that range.
var errBadRange = errors.New("the registry gets ranges wrong")

// open asks once. The range is a closed one, as some servers refuse the other.
func (r *part) open(ctx context.Context) error {
	h, err := r.sources.current(ctx, r.client, r.ref)
	if err != nil {
		return err
	}
	r.at = h
	size := r.desc.Size
	ranged := r.pos > 0 || r.end < size
	if ranged && h.noRanges.Load() {
		if r.helper { // the first fetches it all
			return fmt.Errorf("%w: bytes %d-%d of %d were not asked for", errBadRange, r.pos, r.end-1, size)
		}
		ranged = false
	}
	header := http.Header{}
	if ranged {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", r.pos, r.end-1))
	}
	resp, err := r.client.getAt(ctx, h, r.ref, "/blobs/"+r.desc.Digest.String(), header)
	if ranged && h.refusesRange(err) {
		if r.helper { // the first will see to it
			//nolint:errorlint // what the refusal says counts for a part without a range only
			return fmt.Errorf("%w: %v for bytes %d-%d of %d", errBadRange, err, r.pos, r.end-1, size)
		}
		if resp, err = r.client.getAt(ctx, h, r.ref, "/blobs/"+r.desc.Digest.String(), nil); err == nil {
			h.noRanges.Store(true)
		}
	}
	if err != nil {
		return err
	}
	r.resp = resp

	if resp.StatusCode == http.StatusPartialContent {
		if got := resp.Header.Get("Content-Range"); !ranged || !rangeFits(got, resp.ContentLength, r.pos, r.end, size) {
			h.noRanges.Store(true)
			return fmt.Errorf("%w: asked for bytes %d-%d of %d, got %q", errBadRange, r.pos, r.end-1, size, cut(got, 60))
		}
		h.ranges.Store(true)
		return nil
	}
	decoded, err := decode(resp, r.desc)
	if err != nil {
		return err
	}
	if decoded {
		h.noRanges.Store(true) // they would be of the encoded bytes
	}
	if resp.ContentLength > size {
		return r.wrongSize("more")
	}
	if resp.ContentLength >= 0 && resp.ContentLength < size {
		return r.wrongSize("fewer")
	}
	if ranged {
		h.noRanges.Store(true)
		if r.helper { // the first will see to it
			return fmt.Errorf("%w: 200 for bytes %d-%d of %d", errBadRange, r.pos, r.end-1, size)
		}
	}
	if r.whole != nil {
		r.whole()
	}
	// The whole blob, from the beginning: what the caller has is not progress.
	if n, err := io.CopyN(io.Discard, resp.Body, r.pos); err != nil {
		return fmt.Errorf("at byte %d of %d, again: %w", n, size, err)
	}
	return nil
}

// rangeFits reports whether a Content-Range begins at pos and ends no later than
// at end, in a blob of size bytes, and whether length, if known, agrees. It may
// end early: the rest is then asked for.
func rangeFits(contentRange string, length, pos, end, size int64) bool {
	m := rangePattern.FindStringSubmatch(contentRange)
	if m == nil {
		return false
	}
	first, err1 := strconv.ParseInt(m[1], 10, 64)
	last, err2 := strconv.ParseInt(m[2], 10, 64)
	return err1 == nil && err2 == nil &&
		first == pos && last >= first && last < end &&
		(m[3] == "*" || m[3] == strconv.FormatInt(size, 10)) &&
		(length < 0 || length == last-first+1)
}

var rangePattern = regexp.MustCompile(`^bytes (\d+)-(\d+)/(\d+|\*)$`)

// drop gives up the connection, if there is one.
func (r *part) drop() {
	if r.resp != nil {
		r.resp.Body.Close()
		r.resp = nil
	}
}
