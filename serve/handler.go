package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/registry"
)

// Handler answers requests for images. It is safe for concurrent use.
type Handler struct {
	from  content
	repos repositories
	// live returns the repositories of this moment, of a registry's host or of all. It is
	// nil where they are always repos.
	live  func(ctx context.Context, host string) (repositories, error)
	files int // descriptors that sending a blob takes, about
}

// repositories are repositories by their names.
type repositories map[string]*repository

type repository struct {
	tags      map[string]digest.Digest
	aside     map[string]digest.Digest               // tags that are not listed: cosign's
	referrers map[digest.Digest][]ocispec.Descriptor // by what they refer to
}

// New returns a handler for the images of r, which has to stay open as long as the
// handler is used. If two images would have the same name here, as they differ in their
// hosts alone, that is an error of kind [fault.Usage].
func New(r *bundle.Reader) (*Handler, error) {
	h := &Handler{from: bundled{r}, repos: make(repositories)}
	for _, e := range r.Entries() {
		name := e.Reference()
		if name == "" {
			continue // no client could ask for it
		}
		ref, err := registry.ParseReference(name)
		if err != nil {
			return nil, fault.Wrap(fault.Corrupt, fmt.Errorf("%s: %w", r.Name(), err))
		}
		if !h.repos.add(ref, e.Descriptor.Digest) {
			return nil, fault.WithHint(fault.New(fault.Usage, "%s: two images would be called %s:%s here", r.Name(), ref.Repository(), ref.Tag()),
				"they come from different registries; make a bundle for each")
		}
	}
	if len(h.repos) == 0 {
		return nil, fault.New(fault.NotFound, "%s: no image in it has a name", r.Name())
	}
	for _, e := range r.Referrers() {
		if err := h.refer(r, e); err != nil {
			return nil, fault.Wrap(fault.Corrupt, fmt.Errorf("%s: %w", r.Name(), err))
		}
	}
	return h, nil
}

// add adds an image by its name. It fails where another one has that.
func (r repositories) add(ref registry.Reference, d digest.Digest) bool {
	repo := r[ref.Repository()]
	if repo == nil {
		repo = &repository{
			tags: make(map[string]digest.Digest), aside: make(map[string]digest.Digest), referrers: make(map[digest.Digest][]ocispec.Descriptor),
		}
		r[ref.Repository()] = repo
	}
	if ref.Tag() == "" {
		return true
	}
	if other, ok := repo.tags[ref.Tag()]; ok && other != d {
		return false
	}
	repo.tags[ref.Tag()] = d
	return true
}

// named returns the repositories that there are now. host is the registry whose images
// are asked for, "" for any.
func (h *Handler) named(ctx context.Context, host string) (repositories, error) {
	if h.live == nil {
		return h.repos, nil
	}
	return h.live(ctx, host)
}

// Names returns the images that have tags, as name:tag, sorted.
func (h *Handler) Names(ctx context.Context) (names []string, err error) {
	repos, err := h.named(ctx, "")
	for name, repo := range repos {
		for tag := range repo.tags {
			names = append(names, name+":"+tag)
		}
	}
	slices.Sort(names)
	return names, err
}

var route = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs|tags|referrers)/([^/]+)$`)

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
	}
	m := route.FindStringSubmatch(q.URL.Path)
	if m == nil && q.URL.Path != "/v2/_catalog" {
		refuse(w, http.StatusNotFound, "UNSUPPORTED", "no such resource")
		return
	}
	// A client of a mirror names the registry that it wants.
	repos, err := h.named(q.Context(), q.URL.Query().Get("ns"))
	if err != nil {
		fail(w, err, "", "")
		return
	}
	if m == nil {
		h.page(w, q, slices.Sorted(maps.Keys(repos)), func(names []string) any { return map[string]any{"repositories": names} })
		return
	}
	repo, ok := repos[m[1]]
	if !ok {
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "there is no repository "+m[1])
		return
	}
	switch m[2] {
	case "manifests":
		h.manifest(w, q, repo, m[3])
	case "blobs":
		h.blob(w, q, digest.Digest(m[3]))
	case "referrers":
		if h.live != nil {
			// An empty list would be taken for the registry's own.
			refuse(w, http.StatusNotFound, "UNSUPPORTED", "containerd does not have what refers to an image")
			return
		}
		repo.list(w, q, digest.Digest(m[3]))
	case "tags":
		if m[3] != "list" {
			refuse(w, http.StatusNotFound, "UNSUPPORTED", "no such resource")
			return
		}
		h.page(w, q, slices.Sorted(maps.Keys(repo.tags)), func(names []string) any { return map[string]any{"name": m[1], "tags": names} })
	}
}

func (h *Handler) manifest(w http.ResponseWriter, q *http.Request, repo *repository, what string) {
	d, ok := repo.tags[what]
	if !ok {
		d, ok = repo.aside[what]
	}
	if !ok {
		d = digest.Digest(what)
	}
	b, mediaType, err := h.from.Manifest(q.Context(), d)
	if err == nil {
		err = send(w, q, d, mediaType, b)
	}
	if err != nil {
		fail(w, err, "MANIFEST_UNKNOWN", "there is no manifest "+what)
	}
}

func (h *Handler) blob(w http.ResponseWriter, q *http.Request, d digest.Digest) {
	err := error(bundle.ErrNotHere)
	if d.Validate() == nil {
		var b blob
		if b, err = h.from.Blob(q.Context(), d); err == nil {
			err = send(w, q, d, "application/octet-stream", b)
		}
	}
	if err != nil {
		fail(w, err, "BLOB_UNKNOWN", "there is no such blob")
	}
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
				next := q.URL.Query() // with ns
				next.Set("last", names[n-1])
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
	_ = json.NewEncoder(w).Encode(v) // a client that is gone needs no answer
}

// refuse answers with an error as the specification has it.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A client that is gone needs no answer.
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": code, "message": strings.TrimSpace(message)}}})
}

// later refuses a request that the client may send again.
func later(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	refuse(w, status, "TOOMANYREQUESTS", message)
}
