package registry

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/need"
)

// taking is a registry that has nothing, and says yes to whatever is pushed. The contents
// are left to handle.
func taking(handle http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch q.Method {
		case http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case http.MethodPost:
			w.Header().Set("Location", "/v2/img/blobs/uploads/1")
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPut:
			handle(w, q)
			w.WriteHeader(http.StatusCreated)
		default:
			handle(w, q)
		}
	})
}

// TestPushEnds: a registry that takes no byte of a blob is given up, and so is one
// that wants other credentials or none.
func TestPushEnds(t *testing.T) {
	need.Time(t, "waits for a registry that says nothing")
	over := make(chan struct{}) // a server does not learn that the client has gone
	defer close(over)
	blob := make([]byte, 160<<20) // more than the kernel takes without anybody reading
	for _, tc := range []struct {
		name  string
		patch http.HandlerFunc
		kind  fault.Kind
		say   string
	}{
		{"takes nothing", func(w http.ResponseWriter, q *http.Request) {
			if _, err := io.CopyN(io.Discard, q.Body, 1<<20); err == nil {
				<-over
			}
			w.Header().Set("Location", q.URL.Path) // the config, which is small
			w.WriteHeader(http.StatusAccepted)
		}, fault.Failed, "has taken no byte for 1s"},
		{"says nothing", func(w http.ResponseWriter, q *http.Request) {
			io.Copy(io.Discard, q.Body)
			<-over
		}, fault.Failed, "not begun to answer"},
		{"forbids", func(w http.ResponseWriter, q *http.Request) { w.WriteHeader(http.StatusForbidden) }, fault.Denied, "403"},
		{"can only be read", func(w http.ResponseWriter, q *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) }, fault.Failed, "405"},
		{"fails", func(w http.ResponseWriter, q *http.Request) { w.WriteHeader(http.StatusBadGateway) }, fault.Failed, "502"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := httptest.NewServer(taking(func(w http.ResponseWriter, q *http.Request) {
				if q.Method == http.MethodPatch {
					tc.patch(w, q)
				}
			}))
			defer srv.CloseClientConnections()
			c, err := New(Options{Keychain: authn.NewMultiKeychain(), StallTimeout: time.Second, Retries: -1})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ref, err := ParseReference(strings.TrimPrefix(srv.URL, "http://") + "/img:tag")
			if err != nil {
				t.Fatal(err)
			}
			img, err := mutate.AppendLayers(empty.Image, static.NewLayer(blob, types.OCIUncompressedLayer))
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			err = c.Push(t.Context(), ref, img, nil)
			if fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.say) || time.Since(begun) > time.Minute {
				t.Errorf("after %s: %v", time.Since(begun), err)
			}
		})
	}
}

// TestStallBeginsWithTheBody: a request that waits for its turn is not one that is stuck.
func TestStallBeginsWithTheBody(t *testing.T) {
	const stall = 50 * time.Millisecond
	s := &sender{stall: stall, by: roundTripper(func(req *http.Request) (*http.Response, error) {
		select {
		case <-time.After(3 * stall):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, err
		}
		return &http.Response{StatusCode: http.StatusAccepted, Body: http.NoBody}, req.Context().Err()
	})}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "http://registry/", strings.NewReader("blob"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// TestPushProves: that a registry answers as if it had taken an image proves nothing.
func TestPushProves(t *testing.T) {
	for _, tc := range []struct {
		name string
		get  func(w http.ResponseWriter, asked int, pushed []byte)
		kind fault.Kind
		say  string // "" if it went well
	}{
		{"has it", func(w http.ResponseWriter, _ int, pushed []byte) { w.Write(pushed) }, 0, ""},
		{"has it in a moment", func(w http.ResponseWriter, asked int, pushed []byte) {
			if asked < 3 {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			w.Write(pushed)
		}, 0, ""},
		{"does not let it be read", func(w http.ResponseWriter, _ int, _ []byte) { w.WriteHeader(http.StatusForbidden) }, 0, ""},
		{"does not have it", func(w http.ResponseWriter, _ int, _ []byte) { w.WriteHeader(http.StatusNotFound) }, fault.NotFound, "does not have it"},
		{"has another", func(w http.ResponseWriter, _ int, _ []byte) { io.WriteString(w, `{"schemaVersion":2}`) }, fault.Failed, "pushed was sha256:"},
		{"is a portal", func(w http.ResponseWriter, _ int, _ []byte) { io.WriteString(w, `<html>`) }, fault.Corrupt, "no manifest"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var pushed []byte
			asked := 0
			srv := httptest.NewServer(taking(func(w http.ResponseWriter, q *http.Request) {
				switch {
				case q.Method == http.MethodPatch:
					io.Copy(io.Discard, q.Body)
					w.Header().Set("Location", q.URL.Path)
					w.WriteHeader(http.StatusAccepted)
				case q.Method == http.MethodPut:
					pushed, _ = io.ReadAll(q.Body)
				case strings.Contains(q.URL.Path, "/manifests/"):
					asked++
					tc.get(w, asked, pushed)
				}
			}))
			defer srv.Close()
			c, err := New(Options{Keychain: authn.NewMultiKeychain(), Retries: -1})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.backoff = time.Millisecond
			ref, err := ParseReference(strings.TrimPrefix(srv.URL, "http://") + "/img:tag")
			if err != nil {
				t.Fatal(err)
			}
			err = c.Push(t.Context(), ref, empty.Image, nil)
			if fault.KindOf(err) != tc.kind || (err != nil) != (tc.say != "") || err != nil && !strings.Contains(err.Error(), tc.say) {
				t.Errorf("%v, want %q", err, tc.say)
			}
			if asked == 0 {
				t.Error("the registry was not asked")
			}
		})
	}
}
