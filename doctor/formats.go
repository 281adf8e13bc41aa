package doctor

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/internal/codec"
)

// labelOf returns the format that the media type of a layer names; codec.Unknown if it
// names none.
func labelOf(mediaType string) codec.Format {
	for _, f := range []codec.Format{codec.Gzip, codec.Zstd, codec.Xz, codec.Bzip2} {
		if strings.HasSuffix(mediaType, f.String()) {
			return f
		}
	}
	if mediaType == ocispec.MediaTypeImageLayer {
		return codec.Tar
	}
	return codec.Unknown // also Docker's own for plain tars, which other programs write for any layer
}

// Bounds of looking at layers.
const (
	mostHeads  = 32 // layers, the largest
	headsAside = 4  // at a time
	headsTime  = 5 * time.Second
)

// formats looks at the first bytes of layers. What does not come in time is not in it.
func (v *visit) formats(ctx context.Context, layers []ocispec.Descriptor) map[digest.Digest]codec.Format {
	ctx, cancel := context.WithTimeout(ctx, headsTime)
	defer cancel()
	layers = slices.Clone(layers)
	slices.SortStableFunc(layers, func(a, b ocispec.Descriptor) int { return cmp.Compare(b.Size, a.Size) })
	formats := make(map[digest.Digest]codec.Format)
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(headsAside)
	for _, l := range layers[:min(len(layers), mostHeads)] {
		g.Go(func() error {
			head, err := v.client.Piece(ctx, v.target.ref, l, 0, codec.HeadSize)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				formats[l.Digest] = codec.Detect(head)
			}
			return nil
		})
	}
	_ = g.Wait()
	return formats
}
