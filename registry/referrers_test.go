package registry

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/testkit"
)

// referring is a descriptor of something that refers.
func referring(text string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(text), Size: int64(len(text)), ArtifactType: "a/b"}
}

func indexOf(list ...ocispec.Descriptor) string {
	raw, err := json.Marshal(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: append([]ocispec.Descriptor{}, list...)})
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func asked(t *testing.T, h http.Handler) (*Client, Reference) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c := newClient(t, Options{Retries: -1})
	ref, err := ParseReference(strings.TrimPrefix(srv.URL, "http://") + "/img:tag")
	if err != nil {
		t.Fatal(err)
	}
	return c, ref
}

// TestReferrers has registries with the API, which pages, and without one, in all
// the ways that they say so.
func TestReferrers(t *testing.T) {
	subject := digest.FromString("subject")
	one, two, three := referring("one"), referring("two"), referring("three")
	tagged := "/v2/img/manifests/" + ReferrersTag(subject)
	for _, tc := range []struct {
		name   string
		api    func(w http.ResponseWriter, q *http.Request)
		tag    string // what it names, "" for 404
		want   []ocispec.Descriptor
		kind   fault.Kind
		say    string
		askTag bool
	}{
		{name: "pages", want: []ocispec.Descriptor{one, two, three}, api: func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			switch q.URL.Query().Get("next") {
			case "":
				w.Header().Set("Link", `<http://elsewhere/v2/x?next=2>; rel="next"`) // where, it has no say in
				io.WriteString(w, indexOf(three))
			case "2":
				w.Header().Set("Link", `</v2/img/referrers/`+subject.String()+`?next=3>; rel=next`)
				io.WriteString(w, indexOf(one, three))
			case "3":
				io.WriteString(w, indexOf(two))
			}
		}},
		{name: "none", api: func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			io.WriteString(w, indexOf())
		}},
		{name: "packed", want: []ocispec.Descriptor{one, two}, api: func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, indexOf(two, one))
			z.Close()
		}},
		{name: "null", api: func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			io.WriteString(w, `{"schemaVersion":2,"manifests":null}`)
		}},
		{name: "no list", kind: fault.Corrupt, say: "cannot be read", api: func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			io.WriteString(w, `{"manifests":{}}`)
		}},
		{name: "404, tag", api: http.NotFound, tag: indexOf(two, one), want: []ocispec.Descriptor{one, two}, askTag: true},
		{name: "404, no tag", api: http.NotFound, askTag: true},
		{name: "400", api: func(w http.ResponseWriter, q *http.Request) { w.WriteHeader(400) }, tag: indexOf(one), want: []ocispec.Descriptor{one}, askTag: true},
		{name: "405", api: func(w http.ResponseWriter, q *http.Request) { w.WriteHeader(405) }, tag: indexOf(one), want: []ocispec.Descriptor{one}, askTag: true},
		{name: "a page for people", api: func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, "<html>") }, tag: indexOf(one), want: []ocispec.Descriptor{one}, askTag: true},
		{name: "401", api: func(w http.ResponseWriter, q *http.Request) { w.WriteHeader(401) }, kind: fault.Denied, say: "list what refers to"},
		{name: "500", api: func(w http.ResponseWriter, q *http.Request) { w.WriteHeader(500) }, kind: fault.Failed, say: "500"},
		{name: "a few of much", kind: fault.Corrupt, say: "larger than", api: func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			w.Header().Set("Link", `<x?next=`+q.URL.Query().Get("next")+`1>; rel="next"`)
			much := one
			much.Annotations = map[string]string{"a": strings.Repeat("x", 3<<20)}
			io.WriteString(w, indexOf(much))
		}},
		{name: "more than a list has", kind: fault.Corrupt, say: "objects", api: func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			io.WriteString(w, `{"manifests":[`+strings.Repeat("{},", 1<<17)+`{}]}`)
		}},
		{name: "endless", kind: fault.Corrupt, say: "does not end", api: func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			w.Header().Set("Link", `<`+q.URL.Path+`?n=1>; rel="next"`)
			io.WriteString(w, indexOf(one))
		}},
		{name: "no index", kind: fault.Corrupt, say: "no index", api: func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			io.WriteString(w, `{"layers":[]}`)
		}},
		{name: "bad digest", kind: fault.Corrupt, say: "is not a digest", api: func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			io.WriteString(w, `{"manifests":[{"digest":"sha256:../..","size":1}]}`)
		}},
		{name: "tag of an image", api: http.NotFound, tag: `{"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{}}`, kind: fault.Corrupt, say: "should be an index", askTag: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tagAsked := false
			c, ref := asked(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				switch {
				case q.URL.Path == "/v2/":
				case strings.HasPrefix(q.URL.Path, "/v2/img/referrers/"+subject.String()):
					tc.api(w, q)
				case q.URL.Path == tagged && tc.tag != "":
					tagAsked = true
					w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
					io.WriteString(w, tc.tag)
				default:
					tagAsked = tagAsked || q.URL.Path == tagged
					http.NotFound(w, q)
				}
			}))
			list, err := c.Referrers(t.Context(), ref, subject)
			if fault.KindOf(err) != tc.kind || err != nil && !strings.Contains(err.Error(), tc.say) {
				t.Fatalf("error: %v", err)
			}
			want := sorted(append([]ocispec.Descriptor(nil), tc.want...))
			if fmt.Sprint(list) != fmt.Sprint(want) && len(list)+len(want) > 0 {
				t.Errorf("list %v, want %v", list, want)
			}
			if tagAsked != tc.askTag {
				t.Errorf("the tag was asked for: %v", tagAsked)
			}
		})
	}
}

// TestRefer keeps the index under the tag where there is no API, and leaves a registry
// alone that has one.
func TestRefer(t *testing.T) {
	for _, api := range []bool{false, true} {
		var mu sync.Mutex
		puts, kept := 0, map[string][]byte{}
		c, ref := asked(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case q.URL.Path == "/v2/":
			case q.Method == http.MethodPut:
				puts++
				kept[q.URL.Path], _ = io.ReadAll(q.Body)
				w.WriteHeader(http.StatusCreated)
			case api && strings.Contains(q.URL.Path, "/referrers/"):
				w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
				io.WriteString(w, indexOf())
			case kept[q.URL.Path] != nil:
				w.Write(kept[q.URL.Path])
			default:
				http.NotFound(w, q)
			}
		}))
		subject := digest.FromString("subject")
		for _, step := range []struct {
			add  []ocispec.Descriptor
			puts int
			want []ocispec.Descriptor
		}{
			{[]ocispec.Descriptor{referring("one")}, 1, []ocispec.Descriptor{referring("one")}},
			{[]ocispec.Descriptor{referring("one")}, 0, []ocispec.Descriptor{referring("one")}},
			{[]ocispec.Descriptor{referring("two"), referring("one")}, 1, []ocispec.Descriptor{referring("one"), referring("two")}},
		} {
			puts = 0
			if err := c.Refer(t.Context(), ref, subject, step.add); err != nil {
				t.Fatal(err)
			}
			list, err := c.Referrers(t.Context(), ref, subject)
			if api {
				step.puts, step.want = 0, nil
			}
			if err != nil || puts != step.puts || fmt.Sprint(list) != fmt.Sprint(sorted(step.want)) {
				t.Errorf("API %v: %d puts, %v, %v", api, puts, list, err)
			}
		}
	}
}

func TestHas(t *testing.T) {
	c, ref := asked(t, testkit.RegistryHandler())
	if err := c.pushing(t.Context(), ref, nil, putIndex(t.Context(), indexOf())); err != nil {
		t.Fatal(err)
	}
	for d, want := range map[digest.Digest]bool{digest.FromString(indexOf()): true, digest.FromString("other"): false} {
		if has, err := c.Has(t.Context(), ref.WithDigest(d)); err != nil || has != want {
			t.Errorf("%s: %v, %v", d, has, err)
		}
	}
	if has, err := c.Has(t.Context(), ref); err != nil || !has {
		t.Errorf("by tag: %v, %v", has, err)
	}
}

func putIndex(ctx context.Context, raw string) func(*remote.Pusher, name.Reference) error {
	return func(p *remote.Pusher, as name.Reference) error { return p.Put(ctx, as, rawIndex(raw)) }
}
