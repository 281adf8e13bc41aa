package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// acceptManifests also has the types of schema 1. A registry that has nothing else would answer
// 404 without them, and the caller could not report the reason.
var acceptManifests = strings.Join([]string{
	ocispec.MediaTypeImageIndex,
	ocispec.MediaTypeImageManifest,
	image.DockerManifestList,
	image.DockerManifest,
	image.DockerSchema1Signed + ";q=0.1",
	image.DockerSchema1 + ";q=0.1",
}, ", ")

// Manifest is a manifest or an index as the registry has it.
type Manifest struct {
	// MediaType is what the manifest says it is, or, if it does not, what the
	// descriptor or the registry says.
	MediaType string
	// Digest is the digest of Bytes.
	Digest digest.Digest
	Bytes  []byte
	// From is the host that had it: the registry, or a mirror of it.
	From string
}

// Manifest fetches the manifest that ref names: by digest if it has one, else by tag.
//
// Errors are of kind [fault.NotFound] if there is none, [fault.Denied] if credentials are
// missing, and [fault.Corrupt] if the body does not have its digest, is too large, or is no
// manifest. A signed manifest of schema 1 cannot be checked like this. It is returned
// unchecked, and cannot be used.
func (c *Client) Manifest(ctx context.Context, ref Reference) (Manifest, error) {
	e := errand{
		ref: ref, doing: "fetch manifest of " + ref.String(), missing: "no such image",
		advice: "check the name and what follows it; for some registries an image that you may not see does not exist",
	}
	if ref.digest != "" {
		return c.manifest(ctx, ref, ref.digest.String(), ocispec.Descriptor{Digest: ref.digest, Size: -1}, e)
	}
	if !tagPattern.MatchString(ref.tag) {
		return Manifest{}, fault.New(fault.Usage, "fetch a manifest: the reference has neither tag nor digest")
	}
	e.missing = "no such image or tag"
	return c.manifest(ctx, ref, ref.tag, ocispec.Descriptor{Size: -1}, e)
}

// ManifestOf fetches the manifest that d, a descriptor in an index, names in
// the repository of ref. Its digest is verified; another size than d says is worth a note.
// Errors are those of [Client.Manifest].
func (c *Client) ManifestOf(ctx context.Context, ref Reference, d ocispec.Descriptor) (Manifest, error) {
	e := errand{
		ref: ref, doing: fmt.Sprintf("fetch manifest %s of %s", cut(d.Digest.String(), 150), ref.Familiar()),
		missing: "the index names a manifest that the registry does not have", advice: incomplete,
	}
	if err := checkDigest(d.Digest); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", e.doing, err)
	}
	return c.manifest(ctx, ref, d.Digest.String(), d, e)
}

// manifest fetches by tag or digest. Of want, a digest of "" and a size of -1
// are not known.
func (c *Client) manifest(ctx context.Context, ref Reference, id string, want ocispec.Descriptor, e errand) (Manifest, error) {
	p := c.patience()
	var first *otherDigest
	for again := false; ; {
		var m Manifest
		err := c.each(ctx, ref, want.Digest == "", func(h *host) (err error) {
			m, err = c.manifestAt(p.bear(ctx), h, ref, id, want)
			return err
		})
		if err == nil {
			return m, nil
		}
		if errors.Is(err, errDamaged) && !again {
			again = true
			errors.As(err, &first)
			continue
		}
		var second *otherDigest
		if first != nil && errors.As(err, &second) && second.Digest == first.Digest {
			c.note("the manifest of %s has the digest %.19s, and %s says %.19s: its own counts", ref, second.Digest, second.From, second.told)
			return second.Manifest, nil
		}
		if err = p.again(ctx, err); err != nil {
			return Manifest{}, e.explain(err)
		}
	}
}

func (c *Client) manifestAt(ctx context.Context, h *host, ref Reference, id string, want ocispec.Descriptor) (Manifest, error) {
	resp, err := c.getAt(ctx, h, ref, "/manifests/"+id, http.Header{"Accept": {acceptManifests}})
	if err != nil {
		return Manifest{}, err
	}
	defer resp.Body.Close()
	body, err := readDocument(resp, "the manifest", c.opt.ManifestLimit)
	if err != nil {
		return Manifest{}, err
	}

	algorithm := digest.SHA256
	if want.Digest != "" {
		algorithm = want.Digest.Algorithm()
	}
	m := Manifest{Bytes: body, Digest: algorithm.FromBytes(body), From: h.name}
	var self struct {
		MediaType string `json:"mediaType"`
	}
	notJSON := json.Unmarshal(body, &self)
	contentType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case self.MediaType != "":
		m.MediaType = self.MediaType
	case want.MediaType != "":
		m.MediaType = want.MediaType
	default:
		m.MediaType = contentType
	}
	if m.MediaType == image.DockerSchema1Signed {
		return m, nil // its digest leaves the signature out
	}

	if want.Digest != "" && m.Digest != want.Digest {
		return Manifest{}, corrupt("%w: it has the digest %s, asked for was %s", errDamaged, m.Digest, want.Digest)
	}
	if want.Size > 0 && int64(len(body)) != want.Size {
		c.note("manifest %.19s of %s has %d bytes, its index says %d", m.Digest, ref.Familiar(), len(body), want.Size)
	}
	if notJSON != nil {
		return Manifest{}, notManifest(h, resp, contentType, notJSON)
	}
	told := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if want.Digest == "" && checkDigest(told) == nil && told.Algorithm() == algorithm && told != m.Digest {
		return Manifest{}, fault.Wrap(fault.Corrupt, &otherDigest{m, told})
	}
	return m, nil
}

// otherDigest is the error for a manifest of a tag whose digest differs from the host's header.
// If the same bytes arrive twice they are not damaged: the header is wrong, and the digest of
// the bytes counts.
type otherDigest struct {
	Manifest
	told digest.Digest
}

func (e *otherDigest) Error() string {
	return fmt.Sprintf("%v: it has the digest %s, and the header Docker-Content-Digest says %s", errDamaged, e.Digest, e.told)
}

func (e *otherDigest) Unwrap() error { return errDamaged }

// notManifest is the error for an answer that is something else.
func notManifest(h *host, resp *http.Response, contentType string, err error) error {
	err = corrupt("what came is no manifest but %q: %w", cut(contentType, 100), err)
	if h.isHome(resp.Request.URL) {
		return err
	}
	// A page to log in at, most often.
	return fault.WithHint(fmt.Errorf("%s redirects to %s: %w", h.name, resp.Request.URL.Host, err),
		"something in front of the registry, such as a login page or a proxy, answers in its place: ask its operator how programs get past %s", resp.Request.URL.Host)
}
