package serve

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// emptyTar is a layer without files.
var emptyTar = strings.Repeat("\x00", 1024)

// shipped makes a bundle with an image for each name, all on a layer without files.
func shipped(t *testing.T, names ...string) *bundle.Reader {
	t.Helper()
	return shippedOn(t, emptyTar, bundle.FileOptions{}, names...)
}

// shippedOn makes a bundle with an image for each name, all on the same layer.
func shippedOn(t *testing.T, content string, o bundle.FileOptions, names ...string) *bundle.Reader {
	t.Helper()
	f, err := bundle.Create(filepath.Join(t.TempDir(), "b.tar"), o)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := bundle.NewWriter(f)
	add := func(content string) (digest.Digest, int64) {
		d := digest.FromString(content)
		if err := w.Blob(d, int64(len(content)), strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		return d, int64(len(content))
	}
	layer, size := add(content)
	for _, n := range names {
		config := fmt.Sprintf(`{"os":"linux","architecture":"amd64","config":{"Labels":{"n":%q}},"rootfs":{"type":"layers","diff_ids":[%q]}}`, n, layer)
		add(config)
		img, err := image.Parse([]byte(config))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := bundle.Manifest([]byte("{}"), img, []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: layer, Size: size}})
		if err != nil {
			t.Fatal(err)
		}
		d, n64 := add(string(raw))
		w.Entry(bundle.Entry{Name: n, Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: n64}}.Annotated())
	}
	if err := errors.Join(w.Close(), f.Finish(), f.Publish(t.Context(), nil)); err != nil {
		t.Fatal(err)
	}
	r, err := bundle.Open(t.Context(), f.Name(), bundle.OpenOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func handler(t *testing.T, names ...string) (*Handler, string) {
	t.Helper()
	h, err := New(shipped(t, names...))
	if err != nil {
		t.Fatal(err)
	}
	return h, start(t, h, usual, nil)
}

// usual are the limits that a server has by default.
var usual = newLimits(0, 0, 10_000)

// start runs a server until the test ends, and returns where it is.
func start(t *testing.T, h http.Handler, lim limits, cert *tls.Certificate) (host string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- run(ctx, narrow{l}, h, cert, lim) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server: %v", err)
		}
	})
	return l.Addr().String()
}

// narrow has the kernel take little of what a client does not.
type narrow struct{ net.Listener }

func (l narrow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(32 << 10)
	}
	return c, err
}

// TestClient has go-containerregistry pull and validate what is served.
func TestClient(t *testing.T) {
	h, host := handler(t, "host:5000/team/one:1", "docker.io/library/two:latest", "host:5000/team/one:2")
	if want := []string{"library/two:latest", "team/one:1", "team/one:2"}; !slices.Equal(names(t, h), want) {
		t.Errorf("names %q", names(t, h))
	}
	for _, n := range names(t, h) {
		ref, err := name.ParseReference(host + "/" + n)
		if err != nil {
			t.Fatal(err)
		}
		img, err := remote.Image(ref)
		if err != nil {
			t.Fatal(err)
		}
		layers, err := img.Layers()
		if err != nil || len(layers) != 1 {
			t.Fatal(layers, err)
		}
		content, err := layers[0].Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(content); string(data) != emptyTar || err != nil { // it verifies the digest
			t.Errorf("%s: %d bytes, %v", n, len(data), err)
		}
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := remote.Image(ref.Context().Digest(d.String())); err != nil {
			t.Errorf("%s by digest: %v", n, err)
		}
		if head, err := remote.Head(ref); err != nil || head.Digest != d {
			t.Errorf("HEAD of %s: %v, %v", n, head, err)
		}
	}
	reg, err := name.NewRegistry(host)
	if err != nil {
		t.Fatal(err)
	}
	repos, err := remote.Catalog(t.Context(), reg)
	if err != nil || !slices.Equal(repos, []string{"library/two", "team/one"}) {
		t.Errorf("catalog %q, %v", repos, err)
	}
	tags, err := remote.List(reg.Repo("team/one"), remote.WithPageSize(1))
	if err != nil || !slices.Equal(tags, []string{"1", "2"}) {
		t.Errorf("tags %q, %v", tags, err)
	}
}

// TestRequests sends single requests.
func TestRequests(t *testing.T) {
	_, host := handler(t, "host:5000/img:1")
	layer := digest.FromString(emptyTar).String()
	for _, tc := range []struct {
		method, path, header string
		status               int
		say                  string // in the body, or its length
	}{
		{"GET", "/v2/", "", 200, "{}"},
		{"GET", "/v2/img/blobs/" + layer, "", 200, "1024"},
		{"HEAD", "/v2/img/blobs/" + layer, "", 200, "0"},
		{"GET", "/v2/img/blobs/" + layer, "Range: bytes=1000-", 206, "24"},
		{"GET", "/v2/img/blobs/" + layer, "Range: bytes=10-19", 206, "10"},
		{"GET", "/v2/img/blobs/" + layer, "Range: bytes=-24", 206, "24"},
		{"HEAD", "/v2/img/blobs/" + layer, "Range: bytes=10-19", 200, "0"},
		{"GET", "/v2/img/blobs/" + layer, "Range: bytes=0-9,20-29", 200, "1024"},
		{"GET", "/v2/img/blobs/" + layer, "Range: bytes=2000-", 416, "RANGE_INVALID"},
		{"GET", "/v2/img/blobs/" + layer, `If-None-Match: "` + layer + `"`, 304, ""},
		{"GET", "/v2/img/blobs/" + digest.FromString("x").String(), "", 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/img/blobs/sha256:..", "", 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/img/manifests/2", "", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/img/manifests/" + layer, "", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/other/manifests/1", "", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/img/tags/other", "", 404, "UNSUPPORTED"},
		{"GET", "/v2/img/tags/list?n=x", "", 400, "PAGINATION_NUMBER_INVALID"},
		{"GET", "/v2/img/tags/list?n=0", "", 200, `"tags":[]`},
		{"GET", "/v2/img/tags/list?last=1", "", 200, `"tags":[]`},
		{"GET", "/", "", 404, "UNSUPPORTED"},
		{"PUT", "/v2/img/manifests/1", "", 405, "only be read"},
		{"POST", "/v2/img/blobs/uploads/", "", 405, "UNSUPPORTED"},
		{"DELETE", "/v2/img/manifests/1", "", 405, "UNSUPPORTED"},
	} {
		q, err := http.NewRequestWithContext(t.Context(), tc.method, "http://"+host+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if key, value, ok := strings.Cut(tc.header, ": "); ok {
			q.Header.Set(key, value)
		}
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tc.status || err != nil || !strings.Contains(string(body), tc.say) && fmt.Sprint(len(body)) != tc.say {
			t.Errorf("%s %s %s: %s, %q, %v", tc.method, tc.path, tc.header, resp.Status, body, err)
		}
		if tc.status >= 400 {
			var e struct {
				Errors []struct{ Code, Message string }
			}
			if err := json.Unmarshal(body, &e); err != nil || len(e.Errors) != 1 || e.Errors[0].Code == "" {
				t.Errorf("%s: not an error of the specification: %s", tc.path, body)
			}
		}
	}
}

func TestNew(t *testing.T) {
	if _, err := New(shipped(t, "a:5000/img:1", "b:5000/img:1")); fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
		t.Errorf("two of a name: %v", err)
	}
	if _, err := New(shipped(t, "")); fault.KindOf(err) != fault.NotFound {
		t.Errorf("no name: %v", err)
	}
}

// TestServe ends with its context, also while a request is being answered.
func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	entered := make(chan struct{})
	done := make(chan error)
	var left atomic.Bool
	go func() {
		done <- run(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			defer left.Store(true)
			close(entered)
			for { // to a client that takes nothing
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}), nil, usual)
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("error: %v", err)
		}
		if !left.Load() {
			t.Error("it ends before the request does")
		}
	case <-time.After(grace + 5*time.Second):
		t.Fatal("it does not end")
	}
}

// TestTLS speaks TLS with the certificate that it is given.
func TestTLS(t *testing.T) {
	made := httptest.NewTLSServer(nil) // for its certificate
	cert := made.TLS.Certificates[0]
	client := made.Client()
	made.Close()
	h, err := New(shipped(t, "host:5000/img:1"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Serve(ctx, l, h, Options{Certificate: &cert}) }()
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: client.Transport.(*http.Transport).TLSClientConfig.RootCAs}
	resp, err := client.Get("https://" + l.Addr().String() + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	client.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil || resp.StatusCode != 200 {
		t.Errorf("%s, %v", resp.Status, err)
	}
}

// names returns what a handler has.
func names(t *testing.T, h *Handler) []string {
	t.Helper()
	list, err := h.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}
