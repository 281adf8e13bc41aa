package serve

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/bundle"
)

// content has the manifests and blobs to serve. Its methods return [bundle.ErrNotHere] for a
// digest that it does not have.
type content interface {
	Manifest(ctx context.Context, d digest.Digest) (b blob, mediaType string, err error)
	Blob(ctx context.Context, d digest.Digest) (blob, error)
}

// blob is bytes that do not change. It has no position, so that any number of requests
// can have it: each opens a reader of its own.
type blob struct {
	size int64
	// open returns a reader of the bytes from off on. Only the request that opened a reader may
	// use it: the goroutine of its handler reads it, and closes it before the handler returns.
	// Do not give it to a library that may read from another goroutine.
	open func(off int64) (io.ReadCloser, error)
}

// inMemory returns a blob of bytes that do not change.
func inMemory(data []byte) blob { return sectioned(bytes.NewReader(data), int64(len(data))) }

// sectioned returns the blob of the first size bytes of r.
func sectioned(r io.ReaderAt, size int64) blob {
	return blob{size, func(off int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(r, off, size-off)), nil
	}}
}

// bundled is the content of a bundle.
type bundled struct{ r *bundle.Reader }

// Manifest implements content.
func (c bundled) Manifest(ctx context.Context, d digest.Digest) (b blob, mediaType string, err error) {
	if mediaType, err = c.r.MediaType(d); err == nil {
		b, err = c.Blob(ctx, d)
	}
	return b, mediaType, err
}

// Blob implements content.
func (c bundled) Blob(_ context.Context, d digest.Digest) (blob, error) {
	s, err := c.r.Blob(d)
	if err != nil {
		return blob{}, err
	}
	b := sectioned(s, s.Size())
	open := b.open
	b.open = func(off int64) (io.ReadCloser, error) {
		if err := c.r.Changed(); err != nil {
			return nil, err
		}
		return open(off)
	}
	return b, nil
}

// send answers with a blob, or with a part of it.
func send(w http.ResponseWriter, q *http.Request, d digest.Digest, mediaType string, b blob) error {
	etag := `"` + d.String() + `"`
	if status := precondition(q, etag); status != 0 {
		w.Header().Set("ETag", etag)
		w.WriteHeader(status)
		return nil
	}
	part, status := requested(q, etag, b.size)
	if status == http.StatusRequestedRangeNotSatisfiable {
		w.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(b.size, 10))
		refuse(w, status, "RANGE_INVALID", "the blob ends before that range")
		return nil
	}
	r, err := b.open(part.off)
	if err != nil {
		return err
	}
	defer r.Close()
	buf := make([]byte, min(part.n, pieceSize))
	if q.Method == http.MethodHead {
		buf = nil
	}
	if _, err := io.ReadFull(r, buf); err != nil {
		return err // which can be told as long as nothing was sent
	}
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Docker-Content-Digest", d.String())
	h.Set("ETag", etag)
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Length", strconv.FormatInt(part.n, 10))
	if status == http.StatusPartialContent {
		h.Set("Content-Range", part.contentRange(b.size))
	}
	w.WriteHeader(status)
	if q.Method == http.MethodHead {
		return nil
	}
	if err := copyAll(w, r, part.n, buf); err != nil {
		// The client is gone, or is to see that the rest does not come.
		panic(http.ErrAbortHandler)
	}
	return nil
}

// pieceSize is how much is read and written at a time.
const pieceSize = 64 << 10

// copyAll writes piece and then bytes of r, n bytes in all. It writes a piece only if it could
// read the whole piece.
func copyAll(w io.Writer, r io.Reader, n int64, piece []byte) error {
	for n > 0 {
		if _, err := w.Write(piece); err != nil {
			return err
		}
		n -= int64(len(piece))
		piece = piece[:min(n, int64(len(piece)))]
		if _, err := io.ReadFull(r, piece); err != nil {
			return err
		}
	}
	return nil
}

// fail answers for a manifest or a blob that cannot be opened. code and missing are the error of
// one that does not exist.
func fail(w http.ResponseWriter, err error, code, missing string) {
	switch {
	case errors.Is(err, bundle.ErrNotHere), errors.Is(err, fs.ErrNotExist):
		refuse(w, http.StatusNotFound, code, missing)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		later(w, http.StatusServiceUnavailable, "too many files are open")
	default:
		refuse(w, http.StatusInternalServerError, "UNKNOWN", "what is served cannot be read: "+err.Error())
	}
}
