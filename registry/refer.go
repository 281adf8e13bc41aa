package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// referRounds is how often a list is written that others write too, and referPause how
// long it is left to them at least before it is read again.
const (
	referRounds = 6
	referPause  = 100 * time.Millisecond
)

// Refer makes sure that pushed manifests that refer to subject can be found by it. A registry
// with the referrers API does that itself. Otherwise they are added to the index under the
// fallback tag; what that index has stays.
//
// The distribution specification has no lock for the tag, and Docker's registry 2.8 ignores
// If-Match. So a client that read the index before this one was written, and writes its own
// afterwards, removes these entries. The index is read again after twice the time that reading
// and writing took, and is written anew a few times if entries are missing. A client that is
// slower than that can still remove them.
func (c *Client) Refer(ctx context.Context, ref Reference, subject digest.Digest, list []ocispec.Descriptor) error {
	h, err := c.own(ctx, ref)
	if err != nil {
		return err
	}
	e := errand{ref: ref, doing: fmt.Sprintf("list what refers to %s of %s", subject, ref.Familiar()), missing: "the registry does not say"}
	for range referRounds {
		begun := time.Now()
		have, api, err := c.referrersOf(ctx, h, ref, subject)
		if err != nil {
			return e.explain(err)
		}
		all := append(slices.Clip(have), lacking(have, list)...)
		if api || len(all) == len(have) {
			return nil
		}
		raw, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: sorted(all)})
		if err != nil {
			return err
		}
		if err := c.pushing(ctx, ref.WithTag(ReferrersTag(subject)), nil, func(pusher *remote.Pusher, as name.Reference) error {
			return pusher.Put(ctx, as, rawIndex(raw))
		}); err != nil {
			return err
		}
		// Two that are in step would stay so.
		pause := max(2*time.Since(begun), referPause)
		select {
		case <-time.After(pause + rand.N(pause/2)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	have, _, err := c.referrersOf(ctx, h, ref, subject)
	if err != nil {
		return e.explain(err)
	}
	if n := len(lacking(have, list)); n > 0 {
		return fault.WithHint(fault.New(fault.Failed, "%s: %d of %d are not in the list after it was written %d times", e.doing, n, len(list), referRounds),
			"another program may be writing it, or the registry show an old one: push again later")
	}
	return nil
}

// lacking returns what of list is not in have.
func lacking(have, list []ocispec.Descriptor) (lacks []ocispec.Descriptor) {
	known := make(map[digest.Digest]bool)
	for _, d := range have {
		known[d.Digest] = true
	}
	for _, d := range list {
		if !known[d.Digest] {
			lacks = append(lacks, d)
		}
	}
	return lacks
}

// referrersOf is referrersAt with patience.
func (c *Client) referrersOf(ctx context.Context, h *host, ref Reference, subject digest.Digest) ([]ocispec.Descriptor, bool, error) {
	for p := c.patience(); ; {
		have, api, err := c.referrersAt(p.bear(ctx), h, ref, subject)
		if err == nil {
			return have, api, nil
		}
		if err = p.again(ctx, err); err != nil {
			return nil, api, err
		}
	}
}

// rawIndex is an index that is put as it is.
type rawIndex []byte

func (r rawIndex) RawManifest() ([]byte, error)        { return r, nil }
func (r rawIndex) MediaType() (types.MediaType, error) { return types.OCIImageIndex, nil }

// Has reports whether the registry of ref, no mirror of it, has a manifest. One that may not
// be seen is not there.
func (c *Client) Has(ctx context.Context, ref Reference) (bool, error) {
	h, err := c.own(ctx, ref)
	if err != nil {
		return false, err
	}
	e := errand{ref: ref, doing: "look for " + ref.String(), missing: "the registry does not say"}
	for p := c.patience(); ; {
		err := c.hasAt(p.bear(ctx), h, ref)
		if err == nil {
			return true, nil
		}
		var status *statusError
		if errors.As(err, &status) {
			switch status.code {
			case http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden: // credentials for a push may not allow reading
				return false, nil
			}
		}
		if err = p.again(ctx, err); err != nil {
			return false, e.explain(err)
		}
	}
}

// hasAt asks a host once for a manifest. It reads the manifest where HEAD finds none: a host may
// refuse HEAD.
func (c *Client) hasAt(ctx context.Context, h *host, ref Reference) error {
	resp, s, err := c.exchange(ctx, http.MethodHead, h, ref, "/manifests/"+ref.name(), http.Header{"Accept": {acceptManifests}})
	if err != nil {
		return err
	}
	err = newStatusError(resp, s)
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		_, err = c.manifestAt(ctx, h, ref, ref.name(), ocispec.Descriptor{Size: -1})
	}
	return err
}

// name is the tag or digest by which a manifest is asked for.
func (r Reference) name() string {
	if r.digest != "" {
		return r.digest.String()
	}
	return r.tag
}
