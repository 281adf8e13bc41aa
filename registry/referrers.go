package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/internal/jsonlimit"
)

const (
	maxReferrers     = 4096 // of one manifest
	maxReferrerPages = 256
	maxReferrerLists = 4 // pages of the greatest size
)

// ReferrersTag is the tag under which a registry without the referrers API has the
// index of what refers to a manifest (distribution-spec 1.1, "Referrers Tag Schema").
func ReferrersTag(subject digest.Digest) string {
	tag := subject.Algorithm().String() + "-" + subject.Encoded()
	return tag[:min(len(tag), 128)] // what a tag may have, which a sha512 has not
}

// errNoReferrers is that of a host that knows of none.
var errNoReferrers = errors.New("nothing refers to it")

// Referrers lists the referrers of a manifest in the repository of ref, such as signatures and
// SBOMs, sorted by their digests. It asks for all pages of the referrers API, or reads the
// fallback tag if there is no such API. No referrers are no error.
//
// The manifests that the descriptors name were not fetched. Errors are of kind [fault.Corrupt]
// for an answer that is no list, or an endless one, and otherwise those of [Client.Manifest].
func (c *Client) Referrers(ctx context.Context, ref Reference, subject digest.Digest) (list []ocispec.Descriptor, err error) {
	e := errand{
		ref: ref, doing: fmt.Sprintf("list what refers to %s of %s", cut(subject.String(), 150), ref.Familiar()),
		missing: "the registry does not say", advice: "check the name",
	}
	if err := checkDigest(subject); err != nil {
		return nil, fmt.Errorf("%s: %w", e.doing, err)
	}
	for p := c.patience(); ; {
		err := c.each(ctx, ref, true, func(h *host) (err error) {
			list, _, err = c.referrersAt(p.bear(ctx), h, ref, subject)
			if err == nil && len(list) == 0 {
				err = permanent(errNoReferrers) // a mirror need not have them
			}
			return err
		})
		switch {
		case err == nil:
			return list, nil
		case errors.Is(err, errNoReferrers):
			return nil, nil
		}
		if err = p.again(ctx, err); err != nil {
			return nil, e.explain(err)
		}
	}
}

// referrersAt asks one host once. api reports whether the host has the referrers API.
func (c *Client) referrersAt(ctx context.Context, h *host, ref Reference, subject digest.Digest) (list []ocispec.Descriptor, api bool, err error) {
	path, query := "/referrers/"+subject.String(), ""
	left := maxReferrerLists * c.opt.ManifestLimit
	for page := 0; ; page++ {
		if page == maxReferrerPages || len(list) > maxReferrers {
			return nil, true, corrupt("the registry's list does not end: more than %d on %d pages", len(list), page)
		}
		resp, err := c.getAt(ctx, h, ref, path+query, http.Header{"Accept": {ocispec.MediaTypeImageIndex}})
		if page == 0 && !hasReferrersAPI(resp, err) {
			if resp != nil {
				resp.Body.Close()
			}
			list, err := c.referrersByTag(ctx, h, ref, subject)
			return list, false, err
		}
		if err != nil {
			return nil, true, err
		}
		more, n, err := c.readReferrers(resp)
		resp.Body.Close()
		if err != nil {
			return nil, true, err
		}
		if left -= n; left < 0 {
			return nil, true, corrupt("the registry's list is larger than %d bytes", maxReferrerLists*c.opt.ManifestLimit)
		}
		list = append(list, more...)
		if query = nextPage(resp.Header); query == "" {
			return sorted(list), true, nil
		}
	}
}

// hasReferrersAPI reports whether a response is one of the referrers API. Registries without the
// API answer in many ways, some with an HTML page.
func hasReferrersAPI(resp *http.Response, err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.handshake() || !slices.Contains([]int{
			http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented,
		}, status.code)
	}
	if err != nil {
		return true // not known
	}
	contentType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return contentType == ocispec.MediaTypeImageIndex
}

// readReferrers reads a page of the list, and returns how many bytes it has.
func (c *Client) readReferrers(resp *http.Response) (list []ocispec.Descriptor, size int64, err error) {
	body, err := readDocument(resp, "the list", c.opt.ManifestLimit)
	if err == nil {
		list, err = parseReferrers(body)
	}
	return list, int64(len(body)), err
}

// parseReferrers reads an index. Its list may be null: registries that are written in Go send
// that for an empty list.
func parseReferrers(body []byte) ([]ocispec.Descriptor, error) {
	var index struct{ Manifests json.RawMessage }
	if err := jsonlimit.Unmarshal(body, &index); err != nil {
		return nil, corrupt("the list cannot be read: %w", err)
	}
	if index.Manifests == nil {
		return nil, corrupt("the list is no index")
	}
	var list []ocispec.Descriptor
	if err := json.Unmarshal(index.Manifests, &list); err != nil {
		return nil, corrupt("the list cannot be read: %w", err)
	}
	for _, d := range list {
		if err := checkDigest(d.Digest); err != nil {
			return nil, err
		}
		if d.Size < 0 {
			return nil, corrupt("%s has the size %d", d.Digest, d.Size)
		}
	}
	return list, nil
}

var linkPattern = regexp.MustCompile(`<([^>]*)>\s*;[^,]*\brel="?next"?`)

// nextPage returns the query of the next page, "" if there is none. The registry chooses the query,
// and not the host or the path.
func nextPage(h http.Header) string {
	m := linkPattern.FindStringSubmatch(strings.Join(h.Values("Link"), ", "))
	if m == nil {
		return ""
	}
	u, err := url.Parse(m[1])
	if err != nil || u.RawQuery == "" {
		return ""
	}
	return "?" + u.RawQuery
}

// referrersByTag reads the index that stands in for the API.
func (c *Client) referrersByTag(ctx context.Context, h *host, ref Reference, subject digest.Digest) ([]ocispec.Descriptor, error) {
	tag := ReferrersTag(subject)
	m, err := c.manifestAt(ctx, h, ref, tag, ocispec.Descriptor{Size: -1})
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusNotFound && !status.handshake() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := parseReferrers(m.Bytes)
	if err == nil && m.MediaType != ocispec.MediaTypeImageIndex {
		err = corrupt("it is of the type %q", cut(m.MediaType, 100))
	}
	if err == nil && len(list) > maxReferrers {
		err = corrupt("it has more than %d entries", maxReferrers)
	}
	if err != nil {
		return nil, fmt.Errorf("the tag %s, which should be an index: %w", tag, err)
	}
	return sorted(list), nil
}

// sorted returns descriptors by their digests, each once.
func sorted(list []ocispec.Descriptor) []ocispec.Descriptor {
	slices.SortStableFunc(list, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	return slices.CompactFunc(list, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest })
}
