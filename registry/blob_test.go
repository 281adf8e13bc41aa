package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// noise is a blob of 300,000 bytes that repeats nothing.
var noise = func() string {
	b := make([]byte, 300_000)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}()

// serve answers as a good registry does, ranges included.
func serve(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(noise))
}

// upTo serves n bytes of what is asked for and then does as then says.
func upTo(n int, then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		serve(&limited{w, n}, r)
		http.NewResponseController(w).Flush()
		then(w, r)
	}
}

type limited struct {
	http.ResponseWriter
	n int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.n)
	l.n -= n
	l.ResponseWriter.Write(p[:n])
	return len(p), nil
}

func stall(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// whole serves from the beginning, whatever was asked for.
func whole(w http.ResponseWriter, r *http.Request) {
	r.Header.Del("Range")
	serve(w, r)
}

// chunked serves body without telling its length.
func chunked(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		io.WriteString(w, body)
	}
}

func partialContent(contentRange, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", contentRange)
		w.WriteHeader(http.StatusPartialContent)
		io.WriteString(w, body)
	}
}

func TestBlob(t *testing.T) {
	size := len(noise)
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, noise); err != nil {
				return
			}
		}
	}
	short := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, noise[:1000]) }
	for _, tc := range []struct {
		name   string
		steps  []http.HandlerFunc
		ranges string // of all requests, separated by spaces
		kind   fault.Kind
		words  string
	}{
		{"whole", []http.HandlerFunc{serve}, "-", 0, ""},
		{"chunked", []http.HandlerFunc{chunked(noise)}, "-", 0, ""},
		{"reset", []http.HandlerFunc{upTo(1000, reset), serve}, "- 1000", 0, ""},
		{"reset many times", []http.HandlerFunc{upTo(1000, reset), upTo(1, reset), upTo(1, reset), upTo(1, reset), upTo(1, reset), serve}, "- 1000 1001 1002 1003 1004", 0, ""},
		{"truncated", []http.HandlerFunc{chunked(noise[:1000]), serve}, "- 1000", 0, ""},
		{"stalled", []http.HandlerFunc{upTo(1000, stall), serve}, "- 1000", 0, ""},
		{"503 in between", []http.HandlerFunc{upTo(1000, reset), status(503), status(503), serve}, "- 1000 1000 1000", 0, ""},
		{"range ignored", []http.HandlerFunc{upTo(1000, reset), whole}, "- 1000", 0, ""},
		{"range ignored, reset before new bytes", []http.HandlerFunc{upTo(1000, reset), func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			upTo(500, reset)(w, r)
		}, serve}, "- 1000 -", 0, ""},
		{"short range", []http.HandlerFunc{upTo(1000, reset), partialContent(fmt.Sprintf("bytes 1000-1999/%d", size), noise[1000:2000]), serve}, "- 1000 2000", 0, ""},
		{"range of unknown total", []http.HandlerFunc{upTo(1000, reset), partialContent(fmt.Sprintf("bytes 1000-%d/*", size-1), noise[1000:])}, "- 1000", 0, ""},
		{"range that does not end", []http.HandlerFunc{upTo(1000, reset), partialContent(fmt.Sprintf("bytes 1000-%d/%d", size-1, size), noise[1000:]+noise)}, "- 1000", 0, ""},
		{"wrong range", []http.HandlerFunc{upTo(1000, reset), partialContent(fmt.Sprintf("bytes 0-%d/%d", size-1, size), noise), serve}, "- 1000 -", 0, ""},
		{"416", []http.HandlerFunc{upTo(1000, reset), status(416), serve}, "- 1000 -", 0, ""},
		{"no progress", []http.HandlerFunc{upTo(1000, reset), status(500)}, "- 1000 - 1000 - 1000 -", fault.Failed, "500 Internal Server Error"},
		{"gone", []http.HandlerFunc{upTo(1000, reset), status(404)}, "- 1000 -", fault.NotFound, "no such blob"},
		{"not found", []http.HandlerFunc{status(404)}, "-", fault.NotFound, "no such blob"},
		{"endless", []http.HandlerFunc{endless}, "-", fault.Corrupt, "more bytes than the 300000"},
		{"one more", []http.HandlerFunc{chunked(noise + "x")}, "-", fault.Corrupt, "more bytes"},
		{"longer", []http.HandlerFunc{content("", noise+"x")}, "-", fault.Corrupt, "more bytes"},
		{"shorter", []http.HandlerFunc{short}, "-", fault.Corrupt, "fewer bytes"},
		{"206 for everything", []http.HandlerFunc{partialContent(fmt.Sprintf("bytes 0-%d/%d", size-1, size), noise)}, "- - - -", fault.Failed, "ranges wrong"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript(t, tc.steps...)
			c := newClient(t, Options{StallTimeout: 500 * time.Millisecond, Retries: 3})
			got, err := fetch(t.Context(), c, s.ref(t, ""), descriptor(noise))
			if tc.kind != 0 {
				wantKind(t, err, tc.kind, "fetch blob sha256:", tc.words)
				if len(got) > size {
					t.Errorf("got %d bytes", len(got))
				}
			} else if err != nil {
				t.Error(err)
			} else if string(got) != noise {
				t.Errorf("got %d bytes, other ones", len(got))
			}
			var ranges []string
			for _, r := range s.requests() {
				from := "-"
				if h := r.Header.Get("Range"); h != "" {
					from = strings.TrimSuffix(strings.TrimPrefix(h, "bytes="), fmt.Sprintf("-%d", size-1))
				}
				ranges = append(ranges, from)
			}
			if got := strings.Join(ranges, " "); got != tc.ranges {
				t.Errorf("asked for %q, want %q", got, tc.ranges)
			}
			if n := len(slotsOf(t, c, s)); n != 0 {
				t.Errorf("%d slots are still taken", n)
			}
		})
	}
}

func fetch(ctx context.Context, c *Client, ref Reference, d ocispec.Descriptor) ([]byte, error) {
	r, err := c.Blob(ctx, ref, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func slotsOf(t *testing.T, c *Client, s *script) chan struct{} {
	hosts, err := c.endpoints(t.Context(), s.ref(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	return hosts[0].slots
}

func TestBlobReader(t *testing.T) {
	s := newScript(t, upTo(1000, reset), serve)
	r, err := newClient(t, Options{}).Blob(t.Context(), s.ref(t, ""), descriptor(noise))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := iotest.TestReader(r, []byte(noise)); err != nil {
		t.Error(err)
	}
}

func TestBlobBadDescriptor(t *testing.T) {
	s := newScript(t, serve)
	c := newClient(t, Options{})
	for _, d := range []ocispec.Descriptor{
		{Digest: digest.FromString("x"), Size: -1},
		{Digest: digest.FromString("x"), Size: 1 << 60},
		{Digest: "sha256:../../../x", Size: 1},
		{Digest: "", Size: 1},
	} {
		_, err := c.Blob(t.Context(), s.ref(t, ""), d)
		wantKind(t, err, fault.Corrupt)
	}
	if n := len(s.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestBlobClose(t *testing.T) {
	for _, end := range []string{"close", "context"} {
		t.Run(end, func(t *testing.T) {
			s := newScript(t, upTo(1000, stall))
			c := newClient(t, Options{})
			before := runtime.NumGoroutine()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, err := c.Blob(ctx, s.ref(t, ""), descriptor(noise))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			started, ended := make(chan struct{}), make(chan error)
			go func() {
				close(started)
				_, err := r.Read(make([]byte, 1))
				ended <- err
			}()
			<-started
			want := context.Canceled
			if end == "close" {
				go r.Close()
			} else {
				cancel()
			}
			select {
			case err := <-ended:
				if !errors.Is(err, want) && !errors.Is(err, fs.ErrClosed) {
					t.Errorf("Read ended with %v", err)
				}
			case <-time.After(time.Minute):
				t.Fatal("Read is still blocked")
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, fs.ErrClosed) {
				t.Errorf("Read after Close: %d, %v", n, err)
			}
			if n := len(slotsOf(t, c, s)); n != 0 {
				t.Errorf("%d slots are still taken", n)
			}
			c.Close()
			s.Close()
			for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; {
				if time.Now().After(deadline) {
					buf := make([]byte, 1<<16)
					t.Fatalf("goroutines are left:\n%s", buf[:runtime.Stack(buf, true)])
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
}

func TestReadBlob(t *testing.T) {
	s := newScript(t, content("", "config"))
	c := newClient(t, Options{})
	got, err := c.ReadBlob(t.Context(), s.ref(t, ""), descriptor("config"), 100)
	if err != nil || string(got) != "config" {
		t.Errorf("%q, %v", got, err)
	}
	sha512 := ocispec.Descriptor{Digest: digest.SHA512.FromString("config"), Size: 6}
	if got, err = c.ReadBlob(t.Context(), s.ref(t, ""), sha512, 100); err != nil || string(got) != "config" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = c.ReadBlob(t.Context(), s.ref(t, ""), descriptor("CONFIG"), 100)
	wantKind(t, err, fault.Corrupt, descriptor("config").Digest.String(), descriptor("CONFIG").Digest.String())
	_, err = c.ReadBlob(t.Context(), s.ref(t, ""), descriptor("config"), 5)
	wantKind(t, err, fault.Corrupt, "limit of 5")
}

// TestReadBlobUnsized reads blobs whose descriptors have no size: one that comes damaged is
// fetched again, and one that is too large is not, also if it is packed for the way.
func TestReadBlobUnsized(t *testing.T) {
	unsized := ocispec.Descriptor{Digest: digest.FromString("config")}
	s := newScript(t, content("", "damage"), content("", "config"))
	got, err := newClient(t, Options{}).ReadBlob(t.Context(), s.ref(t, ""), unsized, 100)
	if n := len(s.requests()); err != nil || string(got) != "config" || n != 2 {
		t.Errorf("%q, %v, after %d requests", got, err, n)
	}
	for _, serve := range []http.HandlerFunc{content("", noise), status200("\x1f\x8b\x08"+noise, "Content-Encoding", "gzip")} {
		s := newScript(t, serve)
		_, err := newClient(t, Options{}).ReadBlob(t.Context(), s.ref(t, ""), unsized, 100)
		wantKind(t, err, fault.Corrupt, "limit of 100")
		if n := len(s.requests()); n != 1 {
			t.Errorf("%d requests for a blob that is too large", n)
		}
		_, err = newClient(t, Options{ManifestLimit: 100}).Manifest(t.Context(), s.ref(t, ""))
		wantKind(t, err, fault.Corrupt, "limit of 100")
		if n := len(s.requests()); n != 2 {
			t.Errorf("%d more requests for a manifest that is too large", n-1)
		}
	}
}

func TestEmptyBlob(t *testing.T) {
	s := newScript(t, content("", ""))
	got, err := newClient(t, Options{}).ReadBlob(t.Context(), s.ref(t, ""), descriptor(""), 0)
	if err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
}

// An object store may call a stored gzip a content encoding; its bytes are
// what the digest is of.
func TestBlobIsNotDecoded(t *testing.T) {
	body := "\x1f\x8b not really gzip"
	s := newScript(t, status200(body, "Content-Encoding", "gzip"))
	got, err := newClient(t, Options{}).ReadBlob(t.Context(), s.ref(t, ""), descriptor(body), 100)
	if err != nil || string(got) != body {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRangeFits(t *testing.T) {
	for _, tc := range []struct {
		header string
		length int64
		want   bool
	}{
		{"bytes 10-99/100", 90, true},
		{"bytes 10-99/100", -1, true},
		{"bytes 10-99/*", 90, true},
		{"bytes 10-49/100", 40, true},
		{"bytes 10-49/100", 90, false},
		{"bytes 0-99/100", 100, false},
		{"bytes 10-100/101", 91, false},
		{"bytes 10-99/200", 90, false},
		{"bytes 10-9/100", 0, false},
		{"bytes 10-99999999999999999999/100", -1, false},
		{"bytes */100", -1, false},
		{"items 10-99/100", 90, false},
		{"", 90, false},
	} {
		if got := rangeFits(tc.header, tc.length, 10, 100, 100); got != tc.want {
			t.Errorf("%q, length %d: %v", tc.header, tc.length, got)
		}
	}
}

func TestConnections(t *testing.T) {
	s := newScript(t, serve)
	c := newClient(t, Options{Connections: 2})
	d := descriptor(noise)
	var open []io.ReadCloser
	for range 2 {
		r, err := c.Blob(t.Context(), s.ref(t, ""), d)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		open = append(open, r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Blob(ctx, s.ref(t, ""), d); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a third one: %v", err)
	}
	open[0].Close()
	got, err := fetch(t.Context(), c, s.ref(t, ""), d)
	if err != nil || !bytes.Equal(got, []byte(noise)) {
		t.Errorf("after one was closed: %d bytes, %v", len(got), err)
	}
}
