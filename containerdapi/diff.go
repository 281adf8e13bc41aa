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

// Apply has containerd unpack a layer that is in the content store into a snapshot. It
// returns the diffID of what was unpacked. Containerd runs another program if the layer is
// compressed, and its media type says so.
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
