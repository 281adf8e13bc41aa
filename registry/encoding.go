package registry

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// gzipMagic is how gzip begins.
var gzipMagic = []byte{0x1f, 0x8b}

// encoded reports whether an answer says that it is packed for the way, although that was
// not asked for.
func encoded(resp *http.Response) bool {
	switch strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding"))) {
	case "gzip", "x-gzip":
		return true
	}
	return false
}

// decode makes the body of an answer with a whole blob the blob's own bytes. Some servers
// say "gzip" of each file that is packed, so that the bytes are left alone if there are as
// many as the blob has, or if the blob is packed itself.
func decode(resp *http.Response, d ocispec.Descriptor) (bool, error) {
	if !encoded(resp) || resp.ContentLength == d.Size || strings.Contains(d.MediaType, "gzip") {
		return false, nil
	}
	r := bufio.NewReader(resp.Body)
	if head, err := r.Peek(2); err != nil || !bytes.Equal(head, gzipMagic) {
		resp.Body = body{r, resp.Body}
		return false, nil // an error comes again
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return false, fmt.Errorf("unpack the answer: %w", err)
	}
	resp.Body, resp.ContentLength = body{z, resp.Body}, -1
	return true, nil
}

// readDocument reads a document that is the body of an answer. A document of more than
// limit bytes is an error, which calls the document what.
func readDocument(resp *http.Response, what string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(data)) <= limit {
		data, err = unpacked(resp, data, limit+1)
	}
	switch {
	case int64(len(data)) > limit:
		return nil, corrupt("%s is larger than the limit of %d bytes", what, limit)
	case err != nil:
		return nil, fmt.Errorf("read body: %w", err)
	}
	return data, nil
}

// unpacked returns the bytes of a document, which cannot begin as gzip does, and no more
// than limit of them.
func unpacked(resp *http.Response, data []byte, limit int64) ([]byte, error) {
	if !encoded(resp) || !bytes.HasPrefix(data, gzipMagic) {
		return data, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, limit))
}

// body is a body that is read by way of something else.
type body struct {
	io.Reader
	io.Closer
}
