package probe

import (
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/registry"
)

// noise is a blob of 300,000 bytes that repeats nothing.
var noise = func() string {
	b := make([]byte, 300_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return string(b)
}()

func descriptor(body string) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromString(body), Size: int64(len(body))}
}

// blobs answers requests for blobs with a handler, and all others with 200.
func blobs(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			h(w, r)
		}
	}
}

// whole serves noise, and ranges of it.
func whole(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(noise))
}

// upTo serves the first n bytes of noise, and then calls then.
func upTo(n int, then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, noise[:n])
		_ = http.NewResponseController(w).Flush()
		then(w, r)
	}
}

// content serves a body, and no ranges of it.
func content(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

// refused answers with a status.
func refused(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// reset cuts the connection.
func reset(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// TestHead reads the front of a blob from a range, and from the whole blob.
func TestHead(t *testing.T) {
	d := descriptor(noise)
	small := descriptor("small")
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		of      ocispec.Descriptor
		want    string // "" is an error
	}{
		{"a range", whole, d, noise[:100]},
		{"no ranges", content(noise), d, noise[:100]},
		{"fewer bytes", content("small"), small, "small"},
		{"another range", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 6-105/"+"99")
			w.WriteHeader(206)
		}, d, ""},
		{"cut short", upTo(30, reset), d, ""},
		{"refused", refused(403), d, ""},
	} {
		s := serve(t, blobs(tc.handler))
		got, err := newClient(t, registry.Options{Retries: -1}).Piece(t.Context(), refTo(t, s), tc.of, 0, 100)
		if string(got) != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %d bytes, %v", tc.name, len(got), err)
		}
	}
	if got, err := newClient(t, registry.Options{}).Piece(t.Context(), refTo(t, serve(t, nothing)), descriptor(""), 0, 100); len(got) > 0 || err != nil {
		t.Errorf("of nothing: %d bytes, %v", len(got), err)
	}
	_, err := newClient(t, registry.Options{}).Piece(t.Context(), refTo(t, serve(t, blobs(http.NotFound))), d, 0, 9)
	wantKind(t, err, fault.NotFound)
}

func TestTake(t *testing.T) {
	d := descriptor(noise)
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		first   int64
		n       int64
		wrong   string
		bytes   int64
	}{
		{"whole", whole, 0, d.Size, "", d.Size},
		{"the front", whole, 0, 1000, "", 1000},
		{"a range", whole, 5, 1000, "", 1000},
		{"no ranges", content(noise), 5, 1000, "200 with the whole blob", 0},
		{"refused", refused(416), 5, 1000, "416", 0},
		{"another range", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 6-1004/"+"99")
			w.WriteHeader(206)
		}, 5, 1000, "Content-Range", 0},
		{"cut short", upTo(300, reset), 0, 1000, "", 300},
	} {
		s := serve(t, blobs(tc.handler))
		got, err := Take(t.Context(), newClient(t, registry.Options{Retries: -1}), refTo(t, s), d, tc.first, tc.n, 5*time.Second)
		if err != nil || got.Bytes != tc.bytes || !strings.Contains(got.Wrong, tc.wrong) || tc.wrong == "" && got.Wrong != "" {
			t.Errorf("%s: %d bytes, %q, %v", tc.name, got.Bytes, got.Wrong, err)
		}
		if string(got.Head) != noise[tc.first:tc.first+min(tc.bytes, sampleHead)] {
			t.Errorf("%s: other bytes came", tc.name)
		}
	}
	slow := serve(t, blobs(upTo(10, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })))
	got, err := Take(t.Context(), newClient(t, registry.Options{}), refTo(t, slow), d, 0, d.Size, 200*time.Millisecond)
	if err != nil || got.Bytes != 10 {
		t.Errorf("what came before the limit: %d bytes, %v", got.Bytes, err)
	}
	_, err = Take(t.Context(), newClient(t, registry.Options{}), refTo(t, serve(t, blobs(http.NotFound))), d, 0, 9, time.Second)
	wantKind(t, err, fault.NotFound)
}
