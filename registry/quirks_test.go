package registry

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

var quirksUpdate = flag.Bool("quirks.update", false, "write the table in docs/faults.md")

// quirk is something that registries do, or what is in front of them, and what comes of it.
type quirk struct {
	name  string
	front func(q *quirky, next http.Handler) http.Handler // what is different from a good registry
	sizes func(d *ocispec.Descriptor)                     // what descriptors say
	opt   Options
	fails fault.Kind // 0: the image is pulled
	says  []string   // words of the error or its hint, or else of the notes
}

// quirkLayer is a blob that is asked for by ranges.
var quirkLayer = large[:5<<19]

// quirky is a registry with the image app:1, which an index names.
type quirky struct {
	t     *testing.T
	url   string
	h2    bool
	index []byte
	docs  map[digest.Digest][]byte
	sizes func(d *ocispec.Descriptor)
}

func newQuirky(t *testing.T, q quirk, h2 bool) *quirky {
	r := &quirky{t: t, docs: map[digest.Digest][]byte{}, sizes: q.sizes, h2: h2}
	config := r.add(ocispec.MediaTypeImageConfig, []byte(`{"os":"linux","architecture":"amd64"}`))
	layer := r.add(ocispec.MediaTypeImageLayer, []byte(quirkLayer))
	manifest := r.json(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer}})
	top := r.json(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{manifest}})
	r.index = r.docs[top.Digest]
	var handler http.Handler = r
	if q.front != nil {
		handler = q.front(r, handler)
	}
	r.url = r.serve(handler).URL
	return r
}

func (r *quirky) serve(handler http.Handler) *httptest.Server {
	if r.h2 {
		return newTLS(r.t, handler, nil)
	}
	s := httptest.NewServer(handler)
	r.t.Cleanup(s.Close)
	return s
}

func (r *quirky) json(mediaType string, v any) ocispec.Descriptor {
	data, err := json.Marshal(v)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.add(mediaType, data)
}

func (r *quirky) add(mediaType string, data []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	r.docs[d.Digest] = data
	if r.sizes != nil && mediaType != ocispec.MediaTypeImageLayer {
		r.sizes(&d)
	}
	return d
}

func (r *quirky) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	id := q.URL.Path[strings.LastIndex(q.URL.Path, "/")+1:]
	data := r.docs[digest.Digest(id)]
	switch {
	case q.URL.Path == "/v2/":
		return
	case id == "1":
		data = r.index
	case data == nil:
		status(http.StatusNotFound)(w, q)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(data))
}

// pull does what a pull does.
func (r *quirky) pull(c *Client) error {
	_, rest, _ := strings.Cut(r.url, "://")
	ref, ctx := parse(r.t, rest+"/app:1"), r.t.Context()
	top, err := c.Manifest(ctx, ref)
	if err != nil {
		return err
	}
	var index ocispec.Index
	if err := json.Unmarshal(top.Bytes, &index); err != nil {
		return err
	}
	m, err := c.ManifestOf(ctx, ref, index.Manifests[0])
	if err != nil {
		return err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(m.Bytes, &manifest); err != nil {
		return err
	}
	if _, err := c.ReadBlob(ctx, ref, manifest.Config, 1<<20); err != nil {
		return err
	}
	if _, err := c.Locate(ctx, ref, manifest.Layers[0]); err != nil {
		return err
	}
	got, _, err := download(ctx, c, ref, manifest.Layers[0], folder(r.t))
	if err == nil && string(got) != quirkLayer {
		r.t.Errorf("got %d bytes of the layer, or others", len(got))
	}
	return err
}

func TestQuirks(t *testing.T) {
	for _, q := range quirks() {
		for _, h2 := range []bool{false, true} {
			t.Run(strings.ReplaceAll(q.name, " ", "-")+map[bool]string{false: "/1", true: "/2"}[h2], func(t *testing.T) {
				t.Parallel()
				var notes strings.Builder
				o := q.opt
				o.ChunkSize, o.Retries, o.StallTimeout = 1<<20, 3, 5*time.Second
				o.Note = func(words string) { notes.WriteString(words + "\n") }
				r := newQuirky(t, q, h2)
				err := r.pull(newClient(t, o))
				if q.fails != 0 {
					wantKind(t, err, q.fails, q.says...)
					return
				}
				if err != nil {
					t.Fatalf("%v\nhint: %s", err, fault.HintOf(err))
				}
				for _, words := range q.says {
					if !strings.Contains(notes.String(), words) {
						t.Errorf("no note with %q: %q", words, notes.String())
					}
				}
			})
		}
	}
}

// TestQuirksTable compares the table in the docs with the cases, or writes it.
func TestQuirksTable(t *testing.T) {
	const path, begin, end = "../docs/faults.md", "<!-- made by TestQuirksTable -->\n", "<!-- end of quirks -->\n"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(doc), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table", path)
	}
	var b strings.Builder
	b.WriteString("| what the registry does | what comes of it |\n| --- | --- |\n")
	for _, q := range quirks() {
		words := strings.Join(q.says, "”, “")
		outcome := "is pulled"
		switch {
		case q.fails != 0:
			outcome = fmt.Sprintf("exit code %d, “%s”", q.fails, words)
		case words != "":
			outcome = fmt.Sprintf("is pulled, with a note: “%s”", words)
		}
		fmt.Fprintf(&b, "| %s | %s |\n", q.name, outcome)
	}
	want := head + begin + b.String() + end + tail
	switch {
	case *quirksUpdate:
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	case want != string(doc):
		t.Errorf("%s is not what is tested; write it by: go test ./registry -run TestQuirksTable -quirks.update", path)
	}
}

// The pieces that quirks are made of.

// where has do answer some requests, and the registry the others.
func where(is func(*http.Request) bool, do http.HandlerFunc) func(*quirky, http.Handler) http.Handler {
	return func(_ *quirky, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if is(q) {
				do(w, q)
				return
			}
			next.ServeHTTP(w, q)
		})
	}
}

func isPing(q *http.Request) bool     { return q.URL.Path == "/v2/" }
func isManifest(q *http.Request) bool { return strings.Contains(q.URL.Path, "/manifests/") }
func isRange(q *http.Request) bool    { return q.Header.Get("Range") != "" }
func isHead(q *http.Request) bool     { return q.Method == http.MethodHead }
func isAny(*http.Request) bool        { return true }

// answer answers with a status, a type and a body.
func answer(code int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(code)
		io.WriteString(w, body)
	}
}

// tokenServer asks for a token with a challenge, in which REALM stands for its address, and
// gives it as give does.
func tokenServer(challenge string, give http.HandlerFunc) func(*quirky, http.Handler) http.Handler {
	return func(r *quirky, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			switch {
			case q.URL.Path == "/token":
				give(w, q)
			case q.Header.Get("Authorization") != "Bearer t":
				w.Header().Set("WWW-Authenticate", strings.ReplaceAll(challenge, "REALM", r.url+"/token"))
				w.WriteHeader(http.StatusUnauthorized)
			default:
				next.ServeHTTP(w, q)
			}
		})
	}
}

const usualChallenge = `Bearer realm="REALM",service="s",scope="repository:app:pull"`

// gzipped packs all bodies that are documents.
func gzipped(_ *quirky, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, q)
		if rec.Code != http.StatusOK || rec.Body.Len() > 1<<20 {
			next.ServeHTTP(w, q)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		z.Write(rec.Body.Bytes())
		z.Close()
	})
}

// elsewhere redirects what is to a second registry, which front is in front of.
func elsewhere(is func(*http.Request) bool, front func(*quirky, http.Handler) http.Handler) func(*quirky, http.Handler) http.Handler {
	return func(r *quirky, next http.Handler) http.Handler {
		other := *r
		handler := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.Header.Get("Authorization") == "Bearer home" {
				r.t.Error("the other host got the token of the first")
			}
			front(&other, next).ServeHTTP(w, q)
		})
		s := r.serve(handler)
		other.url = s.URL
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if is(q) {
				http.Redirect(w, q, s.URL+q.URL.Path, http.StatusTemporaryRedirect)
				return
			}
			next.ServeHTTP(w, q)
		})
	}
}

// stale is a user whose password is no longer good.
var stale = keychain{auth: &authn.Basic{Username: "u", Password: "old"}}
