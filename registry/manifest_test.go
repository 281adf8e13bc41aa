package registry

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

const (
	typed   = `{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json"}`
	untyped = `{"schemaVersion":2}`
)

func TestManifest(t *testing.T) {
	sum := digest.FromString(untyped)
	withDigest := func(d string) http.HandlerFunc {
		return status200(untyped, "Docker-Content-Digest", d, "Content-Type", ocispec.MediaTypeImageIndex+"; charset=utf-8")
	}
	for _, tc := range []struct {
		name, suffix string
		step         http.HandlerFunc
		mediaType    string     // of a good one
		kind         fault.Kind // of a bad one
		words        string
	}{
		{"type of the body", ":v1", content("text/plain", typed), "application/vnd.docker.distribution.manifest.v2+json", 0, ""},
		{"type of the header", ":v1", withDigest(sum.String()), ocispec.MediaTypeImageIndex, 0, ""},
		{"an unknown digest header is passed over", ":v1", withDigest("blake3:00"), ocispec.MediaTypeImageIndex, 0, ""},
		{"by digest", "@" + sum.String(), withDigest(""), ocispec.MediaTypeImageIndex, 0, ""},
		{"by sha512", "@" + digest.SHA512.FromString(untyped).String(), withDigest(sum.String()), ocispec.MediaTypeImageIndex, 0, ""},
		{"by tag and digest", ":v1@" + sum.String(), withDigest(""), ocispec.MediaTypeImageIndex, 0, ""},
		{"other digest header", ":v1", withDigest(digest.FromString("x").String()), ocispec.MediaTypeImageIndex, 0, ""},
		{"other digest", "@" + digest.FromString("x").String(), withDigest(""), "", fault.Corrupt, sum.String()},
		{"signed schema 1", ":v1", status200(untyped, "Docker-Content-Digest", digest.FromString("x").String(), "Content-Type", image.DockerSchema1Signed), image.DockerSchema1Signed, 0, ""},
		{"a signed type in the header excuses nothing", "@" + digest.FromString("x").String(), content(image.DockerSchema1Signed, typed), "", fault.Corrupt, "digest"},
		{"a page", ":v1", content("text/html", "<html>"), "", fault.Corrupt, "text/html"},
		{"too large", ":v1", content("text/plain", strings.Repeat(" ", 1000)+typed), "", fault.Corrupt, "limit of 1000 bytes"},
		{"not found", ":v1", status(404), "", fault.NotFound, "no such image or tag"},
		{"bad request", ":v1", status(400), "", fault.Failed, "the registry's\\x1b[31m own words"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript(t, tc.step)
			c := newClient(t, Options{ManifestLimit: 1000})
			m, err := c.Manifest(t.Context(), s.ref(t, tc.suffix))
			if tc.kind != 0 {
				wantKind(t, err, tc.kind, "fetch manifest of "+s.ref(t, tc.suffix).String(), tc.words)
				if strings.ContainsAny(err.Error(), "\x1b\n") {
					t.Errorf("control characters in %q", err)
				}
			} else if err != nil {
				t.Fatal(err)
			} else if m.MediaType != tc.mediaType || m.Digest.Algorithm().FromBytes(m.Bytes) != m.Digest {
				t.Errorf("got %s %s", m.MediaType, m.Digest)
			}
			reqs := s.requests()
			want := 1
			if errors.Is(err, errDamaged) || tc.name == "other digest header" { // it is asked for again
				want = 2
			}
			if len(reqs) != want {
				t.Fatalf("%d requests", len(reqs))
			}
			last := reqs[0].URL.Path[strings.LastIndex(reqs[0].URL.Path, "/")+1:]
			if want := tc.suffix[strings.LastIndexAny(tc.suffix, "@")+1:]; last != strings.TrimPrefix(want, ":") {
				t.Errorf("asked for %s", last)
			}
			if got := reqs[0].Header.Get("Accept-Encoding"); got != "identity" {
				t.Errorf("Accept-Encoding: %q", got)
			}
			if !strings.Contains(reqs[0].Header.Get("Accept"), "manifest.list.v2+json") {
				t.Errorf("Accept: %q", reqs[0].Header.Get("Accept"))
			}
		})
	}
}

func status200(body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Write([]byte(body))
	}
}

func TestManifestOf(t *testing.T) {
	good := descriptor(untyped)
	good.MediaType = ocispec.MediaTypeImageManifest
	longer, other, negative, malformed := good, descriptor("{}  {}            x"), good, good
	longer.Size++
	other.Size = good.Size
	negative.Size = -1
	malformed.Digest = "sha256:../../x"
	for _, tc := range []struct {
		name string
		desc ocispec.Descriptor
		asks int
		bad  bool
	}{
		{"good", good, 1, false},
		{"size", longer, 1, false},
		{"digest", other, 2, true},
		{"negative size", negative, 1, false},
		{"malformed digest", malformed, 0, true},
	} {
		s := newScript(t, content("application/octet-stream", untyped))
		m, err := newClient(t, Options{}).ManifestOf(t.Context(), s.ref(t, ""), tc.desc)
		if tc.bad {
			wantKind(t, err, fault.Corrupt, "fetch manifest sha256:")
		} else if err != nil || m.MediaType != ocispec.MediaTypeImageManifest || m.Digest != good.Digest {
			t.Errorf("%s: %+v, %v", tc.name, m, err)
		}
		if n := len(s.requests()); n != tc.asks {
			t.Errorf("%s: %d requests", tc.name, n)
		}
	}
	s := newScript(t, status(404))
	_, err := newClient(t, Options{}).ManifestOf(t.Context(), s.ref(t, ""), good)
	wantKind(t, err, fault.NotFound, "not whole at the registry")
}

func TestManifestRetries(t *testing.T) {
	ok := content("text/plain", typed)
	truncated := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Write([]byte(typed))
		panic(http.ErrAbortHandler)
	}
	for _, tc := range []struct {
		name  string
		steps []http.HandlerFunc
		asks  int
		ok    bool
	}{
		{"503 twice", []http.HandlerFunc{status(503), status(503), ok}, 3, true},
		{"408, 429, 500", []http.HandlerFunc{status(408), status(429), status(500), ok}, 4, true},
		{"reset", []http.HandlerFunc{reset, ok}, 2, true},
		{"truncated", []http.HandlerFunc{truncated, ok}, 2, true},
		{"503 for ever", []http.HandlerFunc{status(503)}, 4, false},
		{"403", []http.HandlerFunc{status(403), ok}, 1, false},
		{"418", []http.HandlerFunc{status(418), ok}, 1, false},
	} {
		s := newScript(t, tc.steps...)
		_, err := newClient(t, Options{Retries: 3}).Manifest(t.Context(), s.ref(t, ""))
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
		// net/http repeats a GET of its own accord when a connection that had
		// been idle is reset, so there may be more.
		if n := len(s.requests()); n < tc.asks || n > tc.asks+1 {
			t.Errorf("%s: %d requests, want %d", tc.name, n, tc.asks)
		}
	}
}

func TestManifestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newScript(t, func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := newClient(t, Options{}).Manifest(ctx, s.ref(t, ""))
	if !strings.Contains(err.Error(), context.Canceled.Error()) || len(s.requests()) != 1 {
		t.Errorf("%v after %d requests", err, len(s.requests()))
	}
	// Also in a wait between tries.
	ctx, cancel = context.WithCancel(t.Context())
	s = newScript(t, func(w http.ResponseWriter, r *http.Request) {
		status(429, "Retry-After", "60")(w, r)
		http.NewResponseController(w).Flush()
		cancel()
	})
	if _, err = newClient(t, Options{}).Manifest(ctx, s.ref(t, "")); err == nil {
		t.Error("no error")
	}
}

func TestNotARegistry(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, err := newClient(t, Options{}).Manifest(t.Context(), parse(t, server.Listener.Addr().String()+"/app"))
	wantKind(t, err, fault.Failed, "does not answer as a registry does")
}
