package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Refer makes sure that manifests which have been pushed, and refer to subject, are
// found by that. A registry that has the referrers API sees to it itself. Where there
// is none they are added to the index under the tag that stands in for it; what that
// has already stays. Two programs that do so at the same time may lose what one of
// them adds: registries offer no way to do better.
func (c *Client) Refer(ctx context.Context, ref Reference, subject digest.Digest, list []ocispec.Descriptor) error {
	h, err := c.own(ctx, ref)
	if err != nil {
		return err
	}
	e := errand{ref: ref, doing: fmt.Sprintf("list what refers to %s of %s", subject, ref.Familiar()), missing: "the registry does not say"}
	var have []ocispec.Descriptor
	var api bool
	for p := c.patience(); ; {
		if have, api, err = c.referrersAt(ctx, h, ref, subject); err == nil {
			break
		}
		if err = p.again(ctx, err); err != nil {
			return e.explain(err)
		}
	}
	if api {
		return nil
	}
	known := make(map[digest.Digest]bool)
	for _, d := range have {
		known[d.Digest] = true
	}
	all := have
	for _, d := range list {
		if !known[d.Digest] {
			all = append(all, d)
		}
	}
	if len(all) == len(have) {
		return nil
	}
	raw, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: sorted(all)})
	if err != nil {
		return err
	}
	return c.pushing(ctx, ref.WithTag(ReferrersTag(subject)), nil, func(pusher *remote.Pusher, as name.Reference) error {
		return pusher.Put(ctx, as, rawIndex(raw))
	})
}

// rawIndex is an index that is put as it is.
type rawIndex []byte

func (r rawIndex) RawManifest() ([]byte, error)        { return r, nil }
func (r rawIndex) MediaType() (types.MediaType, error) { return types.OCIImageIndex, nil }

// Has tells if the registry of ref, no mirror of it, has a manifest. One that may not
// be seen is not there.
func (c *Client) Has(ctx context.Context, ref Reference) (bool, error) {
	h, err := c.own(ctx, ref)
	if err != nil {
		return false, err
	}
	e := errand{ref: ref, doing: "look for " + ref.String(), missing: "the registry does not say"}
	for p := c.patience(); ; {
		resp, s, err := c.exchange(ctx, http.MethodHead, h, ref, "/manifests/"+ref.name(), http.Header{"Accept": {acceptManifests}})
		if err == nil {
			err = newStatusError(resp, s)
			resp.Body.Close()
			switch resp.StatusCode {
			case http.StatusOK:
				return true, nil
			case http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden:
				return false, nil
			}
		}
		var status *statusError
		if errors.As(err, &status) && status.handshake && (status.code == http.StatusUnauthorized || status.code == http.StatusForbidden) {
			return false, nil // who may push need not be allowed to look
		}
		if err = p.again(ctx, err); err != nil {
			return false, e.explain(err)
		}
	}
}

// name is the tag or digest by which a manifest is asked for.
func (r Reference) name() string {
	if r.digest != "" {
		return r.digest.String()
	}
	return r.tag
}
