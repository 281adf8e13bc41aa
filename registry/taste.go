package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tasteHead is how much of what comes is kept.
const tasteHead = 64 << 10

// Taste is a part of a blob, how it came and how fast.
type Taste struct {
	From      string        // the host that sent it, at the end of redirects
	Wrong     string        // how the answer was not the range that was asked for, "" if it was
	FirstByte time.Duration // from the request to its first byte, of which a login may be a part
	Took      time.Duration // from that byte to the last one
	Bytes     int64         // that came, of those asked for
	Head      []byte        // the first of them, no more than 64 KiB
}

// Taste asks one host for bytes of a blob, n of them from first on, once, and stops
// reading when it has them or after limit, which is no error once something came.
// A part of less than the blob is asked for as a range; Taste.Wrong says if the
// host got that wrong. Nothing is verified. Errors are those of [Client.Blob].
func (c *Client) Taste(ctx context.Context, ref Reference, d ocispec.Descriptor, first, n int64, limit time.Duration) (Taste, error) {
	e, err := blobErrand(ref, d)
	if err != nil {
		return Taste{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var t Taste
	err = c.each(ctx, ref, false, func(h *host) (err error) {
		t, err = c.taste(ctx, h, ref, d, first, n)
		return err
	})
	if err != nil && t.Bytes == 0 {
		return t, e.explain(err)
	}
	return t, nil
}

func (c *Client) taste(ctx context.Context, h *host, ref Reference, d ocispec.Descriptor, first, n int64) (t Taste, err error) {
	header, ranged, end := http.Header{}, first > 0, first+n
	if ranged {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", first, end-1))
	}
	begun := time.Now()
	resp, s, err := c.exchange(ctx, http.MethodGet, h, ref, "/blobs/"+d.Digest.String(), header)
	if err != nil {
		return t, err
	}
	defer resp.Body.Close()
	t.From = resp.Request.URL.Host
	switch code := resp.StatusCode; {
	case code == http.StatusRequestedRangeNotSatisfiable && ranged:
		t.Wrong = "416, as if the blob had no such bytes"
		return t, nil
	case code != http.StatusOK && code != http.StatusPartialContent:
		return t, newStatusError(resp, s)
	case ranged && code == http.StatusOK:
		t.Wrong = "200 with the whole blob"
		return t, nil
	case code == http.StatusPartialContent:
		if got := resp.Header.Get("Content-Range"); !ranged || !rangeFits(got, resp.ContentLength, first, end, d.Size) {
			t.Wrong = fmt.Sprintf("206 with the Content-Range %q", cut(got, 60))
			return t, nil
		}
	}
	err = t.read(resp.Body, n, begun)
	return t, err
}

// read takes up to n bytes. What ends it before that is no error if some came.
func (t *Taste) read(body io.Reader, n int64, begun time.Time) error {
	var started time.Time
	for buf := make([]byte, 64<<10); t.Bytes < n; {
		got, err := body.Read(buf[:min(int64(len(buf)), n-t.Bytes)])
		if got > 0 && started.IsZero() {
			started = time.Now()
			t.FirstByte = started.Sub(begun)
		}
		t.Bytes += int64(got)
		if room := tasteHead - len(t.Head); room > 0 {
			t.Head = append(t.Head, buf[:min(got, room)]...)
		}
		if err != nil {
			if t.Bytes > 0 || errors.Is(err, io.EOF) {
				break
			}
			return err
		}
	}
	if !started.IsZero() {
		t.Took = time.Since(started)
	}
	return nil
}

// Head returns the first n bytes of a blob, or all of one that has fewer, from one host.
// They are asked for as a range, and a host that sends the whole blob is cut off. Nothing
// is verified. Errors are those of [Client.Blob].
func (c *Client) Head(ctx context.Context, ref Reference, d ocispec.Descriptor, n int64) (head []byte, err error) {
	e, err := blobErrand(ref, d)
	if n = min(n, d.Size); err != nil || n == 0 {
		return nil, err
	}
	err = c.each(ctx, ref, false, func(h *host) error {
		resp, s, err := c.exchange(ctx, http.MethodGet, h, ref, "/blobs/"+d.Digest.String(), http.Header{"Range": {fmt.Sprintf("bytes=0-%d", n-1)}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
		case http.StatusPartialContent:
			if got := resp.Header.Get("Content-Range"); !rangeFits(got, resp.ContentLength, 0, n, d.Size) {
				return fmt.Errorf("another range came than was asked for: %q", cut(got, 60))
			}
		default:
			return newStatusError(resp, s)
		}
		head = make([]byte, n)
		_, err = io.ReadFull(resp.Body, head)
		return err
	})
	if err != nil {
		return nil, e.explain(err)
	}
	return head, nil
}

// HasCredentials tells if there are credentials for the repository of ref at its
// registry, and where they were found if that is known: a file, or a helper. The
// error is why they could not be read, which does not keep a pull from going on
// without.
func (c *Client) HasCredentials(ctx context.Context, ref Reference) (found bool, where string, err error) {
	creds := c.credentials(ctx, ref.repo)
	return creds.found, creds.where, creds.err
}
