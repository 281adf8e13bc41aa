package probe

import (
	"context"
	"errors"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/registry"
)

// sampleHead is how many bytes of a sample are kept.
const sampleHead = 64 << 10

// Sample is a part of a blob, and how it arrived.
type Sample struct {
	From      string        // the host that sent it, at the end of redirects
	Wrong     string        // how the answer was not the range that was asked for, "" if it was
	FirstByte time.Duration // from the request to its first byte, a login included
	Took      time.Duration // from that byte to the last one
	Bytes     int64         // bytes received of those asked for
	Head      []byte        // the first of them, at most 64 KiB
}

// Take sends one request to one host for n bytes of a blob from offset first on. It stops when
// it has them, or after limit. A sample that ends early is no error if it has some bytes.
//
// If first is not 0, Take asks for a range. Sample.Wrong says if the host answered with
// something else. Take verifies nothing. Its errors are those of [registry.Client.Blob].
func Take(ctx context.Context, c *registry.Client, ref registry.Reference, d ocispec.Descriptor, first, n int64, limit time.Duration) (Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var s Sample
	part := registry.Part{Blob: d, First: first, N: n, Whole: first == 0}
	err := c.AskPart(ctx, ref, part, func(a registry.Answer) error {
		s = Sample{From: a.Request.URL.Host, Wrong: a.Wrong}
		if s.Wrong != "" {
			return nil
		}
		return s.read(a.Body, n, a.Asked)
	})
	if err != nil && s.Bytes == 0 {
		return s, err
	}
	return s, nil
}

// read receives up to n bytes. An early end is no error if some were received.
func (s *Sample) read(body io.Reader, n int64, begun time.Time) error {
	var started time.Time
	for buf := make([]byte, 64<<10); s.Bytes < n; {
		got, err := body.Read(buf[:min(int64(len(buf)), n-s.Bytes)])
		if got > 0 && started.IsZero() {
			started = time.Now()
			s.FirstByte = started.Sub(begun)
		}
		s.Bytes += int64(got)
		if room := sampleHead - len(s.Head); room > 0 {
			s.Head = append(s.Head, buf[:min(got, room)]...)
		}
		if err != nil {
			if s.Bytes > 0 || errors.Is(err, io.EOF) {
				break
			}
			return err
		}
	}
	if !started.IsZero() {
		s.Took = time.Since(started)
	}
	return nil
}
