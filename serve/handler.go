package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/registry"
)

// Handler answers requests for the images of a bundle. It is safe for concurrent use.
type Handler struct {
	r     *bundle.Reader
	repos map[string]map[string]digest.Digest // tags by repository
}

// New returns a handler for the images of r, which has to stay open. Two images of
// the same name at different hosts cannot both be served; that is an error of kind
// [fault.Usage].
func New(r *bundle.Reader) (*Handler, error) {
	h := &Handler{r: r, repos: make(map[string]map[string]digest.Digest)}
	for _, e := range r.Entries() {
		name := e.Name
		if name == "" {
			name = e.Source
		}
		if name == "" {
			continue // nobody could ask for it
		}
		ref, err := registry.ParseReference(name)
		if err != nil {
			return nil, fault.Wrap(fault.Corrupt, fmt.Errorf("%s: %w", r.Name(), err))
		}
		tags := h.repos[ref.Repository()]
		if tags == nil {
			tags = make(map[string]digest.Digest)
			h.repos[ref.Repository()] = tags
		}
		if ref.Tag() == "" {
			continue
		}
		if other, ok := tags[ref.Tag()]; ok && other != e.Descriptor.Digest {
			return nil, fault.WithHint(fault.New(fault.Usage, "%s: two images would be called %s:%s here", r.Name(), ref.Repository(), ref.Tag()),
				"they come from different registries; make a bundle for each")
		}
		tags[ref.Tag()] = e.Descriptor.Digest
	}
	if len(h.repos) == 0 {
		return nil, fault.New(fault.NotFound, "%s: no image in it has a name", r.Name())
	}
	return h, nil
}

// Names are the images that have tags, as name:tag, sorted.
func (h *Handler) Names() (names []string) {
	for repo, tags := range h.repos {
		for tag := range tags {
			names = append(names, repo+":"+tag)
		}
	}
	slices.Sort(names)
	return names
}

var route = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs|tags)/([^/]+)$`)

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "this registry can only be read")
		return
	}
	switch q.URL.Path {
	case "/v2", "/v2/":
		answer(w, struct{}{})
		return
	case "/v2/_catalog":
		h.page(w, q, slices.Sorted(maps.Keys(h.repos)), func(names []string) any { return map[string]any{"repositories": names} })
		return
	}
	m := route.FindStringSubmatch(q.URL.Path)
	if m == nil {
		refuse(w, http.StatusNotFound, "UNSUPPORTED", "no such resource")
		return
	}
	tags, ok := h.repos[m[1]]
	if !ok {
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "there is no repository "+m[1])
		return
	}
	switch m[2] {
	case "manifests":
		h.manifest(w, q, tags, m[3])
	case "blobs":
		h.blob(w, q, digest.Digest(m[3]))
	case "tags":
		if m[3] != "list" {
			refuse(w, http.StatusNotFound, "UNSUPPORTED", "no such resource")
			return
		}
		h.page(w, q, slices.Sorted(maps.Keys(tags)), func(names []string) any { return map[string]any{"name": m[1], "tags": names} })
	}
}

func (h *Handler) manifest(w http.ResponseWriter, q *http.Request, tags map[string]digest.Digest, what string) {
	d, ok := tags[what]
	if !ok {
		d = digest.Digest(what)
	}
	raw, mediaType, err := h.r.Manifest(d)
	if err != nil {
		h.fail(w, err, "MANIFEST_UNKNOWN", "there is no manifest "+what)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	send(w, q, d, bytes.NewReader(raw))
}

func (h *Handler) blob(w http.ResponseWriter, q *http.Request, d digest.Digest) {
	b, err := h.r.Blob(d)
	if d.Validate() != nil || err != nil {
		h.fail(w, err, "BLOB_UNKNOWN", "there is no such blob")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	send(w, q, d, b)
}

func (h *Handler) fail(w http.ResponseWriter, err error, code, missing string) {
	if err == nil || errors.Is(err, bundle.ErrNotHere) {
		refuse(w, http.StatusNotFound, code, missing)
		return
	}
	refuse(w, http.StatusInternalServerError, "UNKNOWN", "the bundle cannot be read: "+err.Error())
}

// send sends content of a digest, or a range of it.
func send(w http.ResponseWriter, q *http.Request, d digest.Digest, content io.ReadSeeker) {
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("ETag", `"`+d.String()+`"`)
	http.ServeContent(w, q, "", time.Time{}, content)
}

// page answers with a sorted list, or n of it after last.
func (h *Handler) page(w http.ResponseWriter, q *http.Request, names []string, body func([]string) any) {
	if last := q.URL.Query().Get("last"); last != "" {
		i, found := slices.BinarySearch(names, last)
		if found {
			i++
		}
		names = names[i:]
	}
	if text := q.URL.Query().Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			refuse(w, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "n is not a number")
			return
		}
		if n < len(names) {
			names = names[:n]
			if n > 0 {
				next := url.Values{"n": {text}, "last": {names[n-1]}}
				w.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", q.URL.Path, next.Encode()))
			}
		}
	}
	if names == nil {
		names = []string{}
	}
	answer(w, body(names))
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who has gone needs no answer
}

// refuse answers with an error as the specification has it.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": code, "message": strings.TrimSpace(message)}}})
}
