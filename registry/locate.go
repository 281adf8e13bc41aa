package registry

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Locate returns the host from which [Client.Blob] would get a blob. It asks the hosts whether
// they have it. Its errors are those of Blob.
func (c *Client) Locate(ctx context.Context, ref Reference, d ocispec.Descriptor) (from string, err error) {
	from, _, err = c.locate(ctx, ref, d)
	return from, err
}

// BlobSize asks for the size of a blob of which only the digest is known. It returns 0 if the
// registry does not send the size. Its errors are those of [Client.Blob].
func (c *Client) BlobSize(ctx context.Context, ref Reference, blob digest.Digest) (size int64, err error) {
	_, size, err = c.locate(ctx, ref, ocispec.Descriptor{Digest: blob})
	return size, err
}

func (c *Client) locate(ctx context.Context, ref Reference, d ocispec.Descriptor) (from string, size int64, err error) {
	e := errand{
		ref: ref, doing: fmt.Sprintf("look for blob %s of %s", cut(d.Digest.String(), 150), ref.Familiar()),
		missing: "the registry has no such blob", advice: incomplete,
	}
	if err := checkDigest(d.Digest); err != nil {
		return "", 0, fmt.Errorf("%s: %w", e.doing, err)
	}
	for p := c.patience(); ; {
		err := c.each(ctx, ref, false, func(h *host) (err error) {
			from = h.name
			size, err = c.has(p.bear(ctx), h, ref, d)
			return err
		})
		if err == nil {
			return from, size, nil
		}
		if err = p.again(ctx, err); err != nil {
			return "", 0, e.explain(err)
		}
	}
}

// headless reports whether an answer to a HEAD may be one to the method alone.
func headless(code int) bool {
	switch code {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusBadRequest, http.StatusForbidden:
		return true
	}
	return false
}

// hasByGet is has for a host that refuses HEAD. It asks for one byte.
func (c *Client) hasByGet(ctx context.Context, h *host, ref Reference, d ocispec.Descriptor) (size int64, err error) {
	path := "/blobs/" + d.Digest.String()
	resp, err := c.getAt(ctx, h, ref, path, http.Header{"Range": {"bytes=0-0"}})
	if h.refusesRange(err) {
		resp, err = c.getAt(ctx, h, ref, path, nil)
	}
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return max(0, resp.ContentLength), nil
	}
	_, total, _ := strings.Cut(resp.Header.Get("Content-Range"), "/")
	size, _ = strconv.ParseInt(total, 10, 64) // 0 for a total that the host does not say
	return max(0, size), nil
}

// has asks a host if it has a blob, and how large it is. A host that redirects has the blob. The
// redirect is not followed: a signed address may allow only GET.
func (c *Client) has(ctx context.Context, h *host, ref Reference, d ocispec.Descriptor) (size int64, err error) {
	resp, s, err := c.exchange(ctx, http.MethodHead, h, ref, "/blobs/"+d.Digest.String(), nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return max(0, resp.ContentLength), nil
	}
	if resp.StatusCode/100 == 3 {
		return 0, nil
	}
	if headless(resp.StatusCode) {
		return c.hasByGet(ctx, h, ref, d)
	}
	return 0, newStatusError(resp, s)
}
