package pull

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/registry"
)

func TestMain(m *testing.M) {
	os.Exit(need.RootMain("make stores with devices and owners", m.Run))
}

// server is a registry that counts what it is asked for, and fails on cue.
type server struct {
	*httptest.Server
	host    string
	handler http.Handler

	mu    sync.Mutex
	gets  map[string]int // of "manifests" together, and of each blob by its digest
	spoil func(blob string, data []byte) []byte
	hold  func(r *http.Request, blob string) // called before a blob is sent
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{handler: testkit.RegistryHandler(), gets: make(map[string]int)}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	s.host = strings.TrimPrefix(s.URL, "http://")
	return s
}

var blobPath = regexp.MustCompile(`^/v2/.*/blobs/(sha256:[0-9a-f]{64})$`)

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := blobPath.FindStringSubmatch(r.URL.Path)
	if r.Method != http.MethodGet || m == nil {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") {
			s.count("manifests")
		}
		s.handler.ServeHTTP(w, r)
		return
	}
	s.count(m[1])
	s.mu.Lock()
	hold, spoil := s.hold, s.spoil
	s.mu.Unlock()
	if hold != nil {
		hold(r, m[1])
	}
	rec := httptest.NewRecorder()
	s.handler.ServeHTTP(rec, r)
	data := rec.Body.Bytes()
	if spoil != nil && rec.Code == http.StatusOK {
		data = spoil(m[1], data)
	}
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	w.Write(data)
}

// onBlob has hold called before a blob is sent, nil for nothing. Requests of a run that has
// ended may still be at work.
func (s *server) onBlob(hold func(r *http.Request, blob string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = hold
}

func (s *server) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets[what]++
}

// reset forgets what was asked for so far.
func (s *server) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.gets)
}

func (s *server) got(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets[what]
}

// blobs returns how many blobs were asked for.
func (s *server) blobs() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for what, c := range s.gets {
		if what != "manifests" {
			n += c
		}
	}
	return n
}

// client returns a client that calls itself agent.
func client(t *testing.T, agent string) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Options{
		PlainHTTP: true, Keychain: authn.NewMultiKeychain(), UserAgent: agent, Retries: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// file is an entry of a layer.
type file struct {
	name, content string
	typ           byte // a regular file if 0
	mode          int64
}

func plainTar(files ...file) []byte {
	var list []testkit.File
	for _, f := range files {
		list = append(list, testkit.File{Header: tar.Header{Name: f.name, Typeflag: f.typ, Mode: f.mode, Format: tar.FormatPAX}, Content: f.content})
	}
	return testkit.Tar(list...)
}

// layer makes a gzipped layer of files.
func layer(t *testing.T, files ...file) v1.Layer {
	t.Helper()
	return layerAt(gzip.DefaultCompression, files...)
}

// headers makes a layer of empty files which is not compressed: a damaged byte of
// it is one of a header of the tar.
func headers(n int) v1.Layer {
	var files []file
	for i := range n {
		files = append(files, file{name: fmt.Sprintf("%d-%s", i, strings.Repeat("n", 90))})
	}
	return layerAt(gzip.NoCompression, files...)
}

func layerAt(level int, files ...file) v1.Layer {
	plain := plainTar(files...)
	blob := testkit.Compress(func(w io.Writer) (*gzip.Writer, error) { return gzip.NewWriterLevel(w, level) }, plain)
	return &testLayer{static.NewLayer(blob, types.DockerLayer), plain}
}

// testLayer knows its diffID, which a static layer does not.
type testLayer struct {
	v1.Layer
	plain []byte
}

func (l *testLayer) DiffID() (v1.Hash, error) { return v1.NewHash(digest.FromBytes(l.plain).String()) }
func (l *testLayer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.plain)), nil
}

// noise is a layer with a file that does not compress.
func noise(t *testing.T, name string, size int) v1.Layer {
	t.Helper()
	b := make([]byte, size)
	src := rand.NewChaCha8([32]byte([]byte(digest.FromString(name).Encoded()[:32])))
	src.Read(b)
	return layerAt(gzip.NoCompression, file{name: name, content: string(b)})
}

func blobOf(l v1.Layer) string {
	h, _ := l.Digest()
	return h.String()
}

func diffOf(l v1.Layer) digest.Digest {
	h, _ := l.DiffID()
	return digest.Digest(h.String())
}

// push makes an image of layers under a name such as "img:tag", and returns its
// reference. The counts begin anew.
func (s *server) push(t *testing.T, as string, layers ...v1.Layer) registry.Reference {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return s.pushImage(t, as, img)
}

func (s *server) pushImage(t *testing.T, as string, img v1.Image) registry.Reference {
	t.Helper()
	img = testkit.Configured(t, img, func(c *v1.ConfigFile) { c.OS, c.Architecture, c.Author = "linux", runtime.GOARCH, as })
	return s.write(t, as, img)
}

// write pushes an image as it is.
func (s *server) write(t *testing.T, as string, img v1.Image) registry.Reference {
	t.Helper()
	testkit.Put(t, s.host+"/"+as, img)
	s.reset()
	return s.ref(t, as)
}

// pushImageAs copies an image to another repository.
func (s *server) pushImageAs(t *testing.T, ref registry.Reference, repo string) {
	t.Helper()
	from, err := name.ParseReference(ref.String())
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(from)
	if err != nil {
		t.Fatal(err)
	}
	to, err := name.ParseReference(s.host + "/" + repo + "@" + ref.Digest().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(to, img); err != nil {
		t.Fatal(err)
	}
}

func (s *server) ref(t *testing.T, as string) registry.Reference {
	t.Helper()
	ref, err := registry.ParseReference(s.host + "/" + as)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// flip damages a byte of a blob, early in it: what is made of it breaks long
// before its digest is known.
func flip(times int, blobs ...v1.Layer) func(string, []byte) []byte {
	var mu sync.Mutex
	left := make(map[string]int)
	for _, l := range blobs {
		left[blobOf(l)] = times
	}
	return func(blob string, data []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		if left[blob] == 0 {
			return data
		}
		left[blob]--
		data = bytes.Clone(data)
		data[len(data)/3] ^= 0x10
		return data
	}
}

// always is more often than any blob is fetched.
const always = 1 << 20

// pull runs and checks that nothing of the run is left running.
func pull(t *testing.T, ctx context.Context, o to) (*Summary, error) {
	t.Helper()
	sum, err := Run(ctx, o.options(t))
	expectNoGoroutines(t)
	return sum, err
}

var ours = regexp.MustCompile(`fastpull/(pull|fetch|destination|destination/[a-z]+|source|unpack|overlay|bundle)\.`)

// expectNoGoroutines fails if there is a goroutine in the code of a run. Those
// that are just returning are given a moment.
func expectNoGoroutines(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; runtime.Gosched() {
		buf := make([]byte, 1<<20)
		var left []string
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if ours.MatchString(g) && !strings.Contains(g, "_test.go:") {
				left = append(left, g)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines that are still running:\n%s", strings.Join(left, "\n\n"))
		}
	}
}
