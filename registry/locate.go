package registry

import (
	"context"
	"fmt"
	"net/http"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Locate tells from which host [Client.Blob] would get a blob, by asking them
// if they have it. Errors are those of Blob.
func (c *Client) Locate(ctx context.Context, ref Reference, d ocispec.Descriptor) (from string, err error) {
	e := errand{
		ref: ref, doing: fmt.Sprintf("look for blob %s of %s", cut(d.Digest.String(), 150), ref.Familiar()),
		missing: "the registry has no such blob", advice: incomplete,
	}
	if err := checkDigest(d.Digest); err != nil {
		return "", fmt.Errorf("%s: %w", e.doing, err)
	}
	for p := c.patience(); ; {
		err := c.each(ctx, ref, false, func(h *host) error {
			from = h.name
			return c.has(ctx, h, ref, d)
		})
		if err == nil {
			return from, nil
		}
		if err = p.again(ctx, err); err != nil {
			return "", e.explain(err)
		}
	}
}

// has asks a host if it has a blob. To be sent elsewhere for it means that it
// has: a signed address may be good for a GET only.
func (c *Client) has(ctx context.Context, h *host, ref Reference, d ocispec.Descriptor) error {
	resp, s, err := c.exchange(ctx, http.MethodHead, h, ref, "/blobs/"+d.Digest.String(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK || resp.StatusCode/100 == 3 {
		return nil
	}
	return newStatusError(resp, s)
}
