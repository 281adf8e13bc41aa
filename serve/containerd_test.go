package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	introspectionapi "github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/containerdapi"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/fakecontainerd"
	"github.com/fastpull/fastpull/internal/testkit"
)

// filled is a containerd that has what tests put there.
type filled struct {
	*containerdapi.Client
	blobs string
}

func newFilled(t *testing.T) filled {
	t.Helper()
	s := fakecontainerd.Start(t, testkit.SocketDir(t))
	c, err := containerdapi.Dial(t.Context(), containerdapi.Options{Address: s.Address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	root := t.TempDir()
	s.Plugins = []*introspectionapi.Plugin{{Type: "io.containerd.content.v1", Exports: map[string]string{"root": root}}}
	blobs := filepath.Join(root, "blobs/sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	return filled{c, blobs}
}

// handler returns a handler for what it has.
func (c filled) handler(t *testing.T) *Handler {
	t.Helper()
	h, err := NewContainerd(t.Context(), c.Client)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// blob puts a blob into it.
func (c filled) blob(t *testing.T, content string) digest.Digest {
	t.Helper()
	d := digest.FromString(content)
	w, err := c.WriteBlob(t.Context(), d.String(), d, int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ReadFrom(strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Commit(d, nil), os.WriteFile(filepath.Join(c.blobs, d.Encoded()), []byte(content), 0o444)); err != nil {
		t.Fatal(err)
	}
	return d
}

// named gives images the names.
func (c filled) named(t *testing.T, d digest.Digest, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := c.SetImage(t.Context(), name, ocispec.Descriptor{Digest: d}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// got returns what is answered.
func got(t *testing.T, url string) (status int, mediaType, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(data)
}

// TestContainerd asks for what a containerd has, for what it has not, and for what came later.
// A client of a mirror names the registry.
func TestContainerd(t *testing.T) {
	c := newFilled(t)
	absent := digest.FromString("absent")
	layer := c.blob(t, strings.Repeat("0123456789", 1000))
	config := c.blob(t, `{"os":"linux"}`)
	large := c.blob(t, strings.Repeat(" ", maxDocument+1))
	manifest := func(more string) digest.Digest {
		return c.blob(t, fmt.Sprintf(`{"schemaVersion":2,%s"config":{"mediaType":%q,"digest":%q,"size":14},"layers":[{"mediaType":%q,"digest":%q,"size":10000}]}`,
			more, ocispec.MediaTypeImageConfig, config, ocispec.MediaTypeImageLayer, layer))
	}
	nameless, docker := manifest(""), manifest(fmt.Sprintf(`"mediaType":%q,`, image.DockerManifest))
	index := c.blob(t, fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":1},{"mediaType":%[1]q,"digest":%[3]q,"size":1}]}`,
		ocispec.MediaTypeImageManifest, nameless, absent))
	c.named(t, index, "one.invalid:5000/team/img:1", "docker.io/library/same:1", "one.invalid:5000/team/img@"+index.String(), "sha256:"+config.Encoded(), "moby-dangling@"+index.String())
	c.named(t, docker, "one.invalid:5000/team/img:1@"+docker.String(), "two.invalid/library/same:1", "two.invalid/only@"+docker.String())
	h := c.handler(t)
	if names, err := h.Names(t.Context()); err != nil || !slices.Equal(names, []string{"team/img:1"}) {
		t.Errorf("names %q, %v", names, err)
	}
	at := "http://" + start(t, h, usual, nil) + "/v2/"
	const anyIndex, anyManifest, octets, wrong = ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, "application/octet-stream", "application/json"
	for path, want := range map[string]struct {
		status    int
		mediaType string
		digest    digest.Digest
	}{
		"team/img/manifests/1":                           {200, anyIndex, index},
		"team/img/manifests/1?ns=one.invalid:5000":       {200, anyIndex, index},
		"team/img/manifests/1?ns=one.invalid":            {404, wrong, ""},
		"team/img/manifests/2":                           {404, wrong, ""},
		"team/img/manifests/" + nameless.String():        {200, anyManifest, nameless},
		"only/manifests/" + docker.String():              {200, image.DockerManifest, docker},
		"only/manifests/" + absent.String():              {404, wrong, ""},
		"only/manifests/" + layer.String():               {404, wrong, ""},
		"only/manifests/" + large.String():               {404, wrong, ""},
		"only/manifests/sha256:short":                    {404, wrong, ""},
		"only/blobs/" + layer.String():                   {200, octets, layer},
		"only/blobs/" + absent.String():                  {404, wrong, ""},
		"only/blobs/sha256:short":                        {404, wrong, ""},
		"none/blobs/" + layer.String():                   {404, wrong, ""},
		"team/img/referrers/" + index.String():           {404, wrong, ""},
		"library/same/manifests/1":                       {404, wrong, ""},
		"library/same/manifests/1?ns=docker.io":          {200, anyIndex, index},
		"library/same/manifests/1?ns=two.invalid":        {200, image.DockerManifest, docker},
		"library/same/manifests/" + docker.String():      {200, image.DockerManifest, docker},
		"library/moby-dangling/manifests/1":              {404, wrong, ""},
		"library/sha256/manifests/" + config.Encoded():   {404, wrong, ""},
		"library/sha256/blobs/" + layer.String() + "?ns": {404, wrong, ""},
	} {
		status, mediaType, body := got(t, at+path)
		if status != want.status || mediaType != want.mediaType || status == 200 && digest.FromString(body) != want.digest {
			t.Errorf("%s: %d %s\n%.200s", path, status, mediaType, body)
		}
	}
	if _, _, body := got(t, at+"_catalog"); body != `{"repositories":["library/same","only","team/img"]}`+"\n" {
		t.Errorf("repositories: %s", body)
	}
	resp, err := http.Get(at + "_catalog?n=1&ns=two.invalid") // a list of two
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if next := resp.Header.Get("Link"); next != `</v2/_catalog?last=library%2Fsame&n=1&ns=two.invalid>; rel="next"` {
		t.Errorf("the next page: %s", next)
	}
	c.named(t, nameless, "one.invalid:5000/team/img:2")
	if _, _, body := got(t, at+"team/img/tags/list"); body != `{"name":"team/img","tags":["1","2"]}`+"\n" {
		t.Errorf("tags: %s", body)
	}
}

// TestContainerdRange asks for a part of a blob.
func TestContainerdRange(t *testing.T) {
	c := newFilled(t)
	content := strings.Repeat("0123456789", 30_000)
	layer := c.blob(t, content)
	c.named(t, layer, "one.invalid/img:1")
	q, err := http.NewRequest(http.MethodGet, "http://"+start(t, c.handler(t), usual, nil)+"/v2/img/blobs/"+layer.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Range", "bytes=100003-250004")
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusPartialContent || string(data) != content[100003:250005] {
		t.Errorf("%d, %d bytes, %v", resp.StatusCode, len(data), err)
	}
}

// TestContainerdDamaged: what has another size, or as a manifest other bytes, is not sent.
// What another namespace has is not there.
func TestContainerdDamaged(t *testing.T) {
	c := newFilled(t)
	short, changed := c.blob(t, "short"), c.blob(t, "{}")
	foreign := digest.FromString("foreign")
	c.named(t, short, "one.invalid/img:1")
	at := "http://" + start(t, c.handler(t), usual, nil) + "/v2/img/"
	for d, content := range map[digest.Digest]string{short: "shor", changed: "[]", foreign: "foreign"} {
		file := filepath.Join(c.blobs, d.Encoded())
		if err := errors.Join(os.RemoveAll(file), os.WriteFile(file, []byte(content), 0o444)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]int{
		"blobs/" + short.String(): 500, "manifests/" + short.String(): 500, "manifests/1": 500, "manifests/" + changed.String(): 500, "blobs/" + foreign.String(): 404,
	} {
		if status, _, body := got(t, at+path); status != want || want == 500 && !strings.Contains(body, "damaged") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if err := os.Remove(filepath.Join(c.blobs, short.Encoded())); err != nil {
		t.Fatal(err)
	}
	if status, _, body := got(t, at+"blobs/"+short.String()); status != 404 {
		t.Errorf("removed since: %d %s", status, body)
	}
}

// TestContainerdManyDocuments has many clients ask for a layer as a manifest. Few of them are read at
// a time, and a client that goes does not wait.
func TestContainerdManyDocuments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := inContainerd{reading: make(chan struct{}, mostReading)}
		layer := []byte("layer")
		var reading, all atomic.Int64
		read := make(chan struct{})
		b := blob{int64(len(layer)), func(int64) (io.ReadCloser, error) {
			all.Add(1)
			reading.Add(1)
			defer reading.Add(-1)
			<-read
			return io.NopCloser(bytes.NewReader(layer)), nil
		}}
		var clients sync.WaitGroup
		for range 64 {
			clients.Go(func() {
				if _, _, err := l.document(t.Context(), digest.FromBytes(layer), b); !errors.Is(err, bundle.ErrNotHere) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := reading.Load(); n != mostReading {
			t.Errorf("%d are read at a time", n)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := l.document(gone, digest.FromBytes(layer), b); !errors.Is(err, context.Canceled) {
			t.Errorf("a client that is gone: %v", err)
		}
		close(read)
		clients.Wait()
		if all.Load() != 64 {
			t.Errorf("%d were read in all", all.Load())
		}
	})
}

// TestContainerdElsewhere: a process that does not see the files of containerd says so at once.
func TestContainerdElsewhere(t *testing.T) {
	c := newFilled(t)
	if err := os.RemoveAll(filepath.Dir(filepath.Dir(c.blobs))); err != nil {
		t.Fatal(err)
	}
	_, err := NewContainerd(t.Context(), c.Client)
	if fault.KindOf(err) != fault.Denied || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(fault.Advice(err), "mount "+filepath.Dir(filepath.Dir(c.blobs))) {
		t.Errorf("%v; %s", err, fault.Advice(err))
	}
}

// TestContainerdGone: when containerd does not answer, nothing is said to be absent.
func TestContainerdGone(t *testing.T) {
	c := newFilled(t)
	h := c.handler(t)
	at := "http://" + start(t, h, usual, nil) + "/v2/"
	c.Close()
	for _, path := range []string{"_catalog", "img/manifests/1", "img/tags/list", "img/blobs/" + digest.FromString("").String()} {
		if status, _, body := got(t, at+path); status != http.StatusInternalServerError || !strings.Contains(body, "list the images of containerd") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if _, err := h.Names(context.Background()); err == nil {
		t.Error("there are names")
	}
}
