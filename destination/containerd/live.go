package containerd

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/containerdapi"
	"github.com/fastpull/fastpull/destination/internal/imagestore"
)

// live is a containerd that runs, with a snapshotter.
type live struct {
	*containerdapi.Client
	snapshotter string
}

var (
	_ imagestore.Containerd = live{}
	_ imagestore.Unpacker   = live{}
)

// Leased implements [imagestore.Containerd].
func (l live) Leased(lease string) imagestore.Containerd {
	return live{l.Client.Leased(lease), l.snapshotter}
}

// Snapshots implements [imagestore.Containerd].
func (l live) Snapshots() imagestore.Snapshots { return l.Client.Snapshots(l.snapshotter) }

// WriteBlob implements [imagestore.Containerd].
func (l live) WriteBlob(ctx context.Context, ref string, d digest.Digest, size int64) (imagestore.Writer, error) {
	w, err := l.Client.WriteBlob(ctx, ref, d, size)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// SetImages implements [imagestore.Containerd].
func (l live) SetImages(ctx context.Context, names []string, target ocispec.Descriptor, labels map[string]string) error {
	for _, name := range names {
		if err := l.Client.SetImage(ctx, name, target, labels); err != nil {
			return fmt.Errorf("give the image the name %s in containerd: %w", name, err)
		}
	}
	return nil
}
