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

// plainSize returns how many bytes the plain tar of a layer probably has, before it is
// decoded. It returns 0 if there is no telling. The file header that goes before the layer
// in an archive needs the size.
//
// A gzip member ends with its plain size, modulo 4 GiB, and a zstd frame may begin with it.
// Both are wrong for a blob of several, and a builder may lie. The caller has to count.
func (e *engine) plainSize(ctx context.Context, ref registry.Reference, l image.Layer) int64 {
	if l.Blob.Digest == l.DiffID {
		return l.Blob.Size
	}
	if n, err := strconv.ParseInt(l.Blob.Annotations[annotationPlainSize], 10, 64); err == nil && n > 0 {
		return n
	}
	if l.Blob.Size < askedFrom {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, askedFor)
	defer cancel()
	n := int64(0)
	switch {
	case strings.HasSuffix(l.Blob.MediaType, "gzip"):
		if tail, err := e.env.Source.Piece(ctx, ref, l.Blob, l.Blob.Size-4, 4); err == nil {
			n = int64(binary.LittleEndian.Uint32(tail))
		}
	case strings.HasSuffix(l.Blob.MediaType, "zstd"):
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
