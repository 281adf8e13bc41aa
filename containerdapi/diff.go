package containerdapi

import (
	"context"
	"time"

	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// applyTimeout bounds an Apply. Containerd does not tell how far it is.
const applyTimeout = time.Hour

// Apply makes containerd unpack a layer of its content store into a snapshot. It returns the
// diffID. Containerd runs another program if the media type says that the layer is compressed.
func (c *Client) Apply(ctx context.Context, layer ocispec.Descriptor, mounts []*Mount) (digest.Digest, error) {
	answer, err := callFor(ctx, c, applyTimeout, diffapi.NewDiffClient(c.conn).Apply, &diffapi.ApplyRequest{
		Diff:   &types.Descriptor{MediaType: layer.MediaType, Digest: layer.Digest.String(), Size: layer.Size},
		Mounts: mounts,
	})
	if err != nil {
		return "", err
	}
	return digest.Digest(answer.Applied.Digest), nil
}
