package engine

import (
	"context"
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

const (
	// askedFrom is the size of a blob from which on its source is asked for a piece of it.
	// The file of a smaller layer costs less than the question.
	askedFrom = 1 << 20

	// askedFor is how long an answer may take.
	askedFor = 10 * time.Second

	// annotationPlainSize is set on layers by builders of eStargz.
	annotationPlainSize = "io.containers.estargz.uncompressed-size"
)

// plainSize is how many bytes the plain tar of a layer probably has, before it is decoded.
// The file header that goes before the layer in an archive needs it. The caller has to count:
// see [engine.askSize], and a builder may lie.
type plainSize struct {
	known chan struct{} // closed when bytes is set
	bytes int64         // 0 if there is no telling
}

// plainSize returns the plain size of a layer of ref, or finds it out meanwhile. It is nil if
// there is no way to.
func (e *engine) plainSize(ctx context.Context, ref registry.Reference, l image.Layer) *plainSize {
	s := &plainSize{known: make(chan struct{})}
	if l.Blob.Digest == l.DiffID {
		s.bytes = l.Blob.Size
	} else if n, err := strconv.ParseInt(l.Blob.Annotations[annotationPlainSize], 10, 64); err == nil && n > 0 {
		s.bytes = n
	}
	switch {
	case s.bytes > 0:
		close(s.known)
	case l.Blob.Size < askedFrom || !isGzip(l) && !isZstd(l):
		return nil
	default:
		go func() {
			defer close(s.known)
			s.bytes = e.askSize(ctx, ref, l)
		}()
	}
	return s
}

func isGzip(l image.Layer) bool { return strings.HasSuffix(l.Blob.MediaType, "gzip") }
func isZstd(l image.Layer) bool { return strings.HasSuffix(l.Blob.MediaType, "zstd") }

// askSize reads the plain size from the blob. A gzip member ends with it, modulo 4 GiB, and
// a zstd frame may begin with it. Both are wrong for a blob of several.
func (e *engine) askSize(ctx context.Context, ref registry.Reference, l image.Layer) (n int64) {
	ctx, cancel := context.WithTimeout(ctx, askedFor)
	defer cancel()
	if isGzip(l) {
		if tail, err := e.env.Source.Piece(ctx, ref, l.Blob, l.Blob.Size-4, 4); err == nil {
			n = int64(binary.LittleEndian.Uint32(tail))
		}
	} else {
		var h zstd.Header
		head, err := e.env.Source.Piece(ctx, ref, l.Blob, 0, zstd.HeaderMaxSize)
		if err == nil && h.Decode(head) == nil && h.HasFCS && h.FrameContentSize <= math.MaxInt64 {
			n = int64(h.FrameContentSize)
		}
	}
	// Content that does not compress grows by less than this. A smaller number is that of
	// one part of several, or has passed 4 GiB.
	if n < l.Blob.Size-l.Blob.Size/64 {
		return 0
	}
	return n
}

// until returns a channel that is closed when the layer may be decoded: at its turn if the
// size is known then, since it can be streamed, or else as soon as its size turns out to be
// unknown.
func (s *plainSize) until(ctx context.Context, turn <-chan struct{}) <-chan struct{} {
	begin := make(chan struct{})
	go func() {
		defer close(begin)
		<-s.known // it ends with ctx
		if s.bytes == 0 {
			return
		}
		select {
		case <-turn:
		case <-ctx.Done():
		}
	}()
	return begin
}
