package serve

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/internal/need"
)

// manyFiles is a layer of small files, one of which is empty.
func manyFiles(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	random := rand.NewChaCha8([32]byte{1})
	for i := range 120 {
		content := make([]byte, i*7_919%50_000)
		random.Read(content)
		name := fmt.Sprintf("dir%d/sub%d/file%d", i/40, i/8, i)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Format: tar.FormatPAX}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestHostile has clients that reset their connections, of which most have asked for
// several ranges, clients that take nothing, and honest ones pull from a server at the
// same time. Every honest byte is right, and nothing is left of the others.
func TestHostile(t *testing.T) {
	need.Time(t, "many clients")
	layer := manyFiles(t)
	t.Run("store", func(t *testing.T) {
		p := newPulled(t)
		img, err := mutate.AppendLayers(empty.Image, static.NewLayer(layer, types.DockerUncompressedLayer))
		if err != nil {
			t.Fatal(err)
		}
		p.add(t, 0, "img:1", img)
		hostile(t, p.handler(t), layer, 1000)
	})
	for name, tc := range map[string]struct {
		bundle.FileOptions
		rude int64
	}{"bundle": {rude: 1000}, "parts": {bundle.FileOptions{Split: 1 << 20}, 200}} {
		t.Run(name, func(t *testing.T) {
			h, err := New(shippedOn(t, string(layer), tc.FileOptions, "host:5000/img:1"))
			if err != nil {
				t.Fatal(err)
			}
			hostile(t, h, layer, tc.rude)
		})
	}
}

// hostile serves an image img that has the layer to clients of all kinds, of which so many
// are rude.
func hostile(t *testing.T, h *Handler, layer []byte, rude int64) {
	lim := usual
	lim.stall, lim.idle = 3*time.Second, 3*time.Second
	host := start(t, h, lim, nil)
	path := "/v2/img/blobs/" + digest.FromBytes(layer).String()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10}}
	if err := honest(t.Context(), client, "http://"+host+path, layer, rand.New(rand.NewPCG(0, 0))); err != nil {
		t.Fatal(err)
	}
	client.CloseIdleConnections()
	before := settled(t, nil)

	var good, bad sync.WaitGroup
	var asked, aborted atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	for seed := range uint64(5) {
		good.Go(func() {
			random := rand.New(rand.NewPCG(seed, 1))
			for ctx.Err() == nil {
				if err := honest(t.Context(), client, "http://"+host+path, layer, random); err != nil {
					t.Error(err)
				}
				asked.Add(1)
			}
		})
	}
	const slow = 4
	for seed := range uint64(16) {
		bad.Go(func() {
			random := rand.New(rand.NewPCG(seed, 2))
			for aborted.Add(1) <= rude {
				if err := reset(host, path, len(layer), random); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range slow {
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	}
	bad.Wait()
	stop()
	good.Wait()
	client.CloseIdleConnections()
	if n := asked.Load(); n < 10 {
		t.Errorf("only %d honest requests were answered meanwhile", n)
	}
	after := settled(t, func(now use) bool { return now.files <= before.files+slow && now.goroutines <= before.goroutines })
	if after.files > before.files+slow || after.goroutines > before.goroutines { // the slow ones' own ends are open
		t.Errorf("before there were %+v, and %+v are left", before, after)
	}
}

// honest asks for all of a layer, or mostly for a range, and compares it.
func honest(ctx context.Context, c *http.Client, address string, layer []byte, random *rand.Rand) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	from, to, status := 0, len(layer), http.StatusOK
	if random.IntN(16) > 0 {
		from = random.IntN(len(layer))
		to, status = from+1+random.IntN(min(len(layer)-from, 200_000)), http.StatusPartialContent
		q.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	}
	resp, err := c.Do(q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || digest.FromBytes(got) != digest.FromBytes(layer[from:to]) {
		return fmt.Errorf("bytes %d to %d: %s, %d bytes, which are wrong, %w", from, to, resp.Status, len(got), errors.Join(err))
	}
	return nil
}

// reset asks for something, takes a part of the answer, and resets the connection.
func reset(host, path string, size int, random *rand.Rand) error {
	c, err := net.Dial("tcp", host)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		return err
	}
	var header string
	if n := []int{0, 1, 2, 50, 500}[random.IntN(5)]; n > 0 {
		most := min(size/4, 2_000_000/n)
		var ranges []string
		for i := n; i > 0; i-- { // backward
			from := size * i / (n + 2)
			ranges = append(ranges, fmt.Sprintf("%d-%d", from, from+random.IntN(most)))
		}
		header = "Range: bytes=" + strings.Join(ranges, ",") + "\r\n"
	}
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", path, header)
	if _, err := io.CopyN(io.Discard, c, random.Int64N(60_000)); err != nil && err != io.EOF { // a short range
		return fmt.Errorf("a client that will reset its connection: %w", err)
	}
	return c.(*net.TCPConn).SetLinger(0)
}

// use is what this process has.
type use struct{ files, goroutines int }

// settled returns what this process has when that is enough for it, or has not changed for
// a while if enough is nil. It does not wait long.
func settled(t *testing.T, enough func(use) bool) (now use) {
	t.Helper()
	still := 0
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		last := now
		now = use{len(files), runtime.NumGoroutine()}
		if still++; now != last {
			still = 0
		}
		if enough != nil && enough(now) || enough == nil && still == 10 {
			break
		}
	}
	return now
}

// TestOneOwner has every reader be used by one request alone: none is read at the same time
// by two, or after it was closed, and all are closed.
func TestOneOwner(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	d := digest.FromBytes(data)
	var open, opened, wrong atomic.Int64
	h := &Handler{repos: map[string]*repository{"img": {}}, from: contents{d: blob{int64(len(data)), func(off int64) (io.ReadCloser, error) {
		open.Add(1)
		opened.Add(1)
		return &owned{Reader: bytes.NewReader(data[off:]), open: &open, wrong: &wrong}, nil
	}}}}
	host := start(t, h, usual, nil)
	var clients sync.WaitGroup
	for seed := range uint64(8) {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(seed, 3))
			for range 40 {
				if err := reset(host, "/v2/img/blobs/"+d.String(), len(data), random); err != nil {
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
	settled(t, func(use) bool { return open.Load() == 0 })
	if n := opened.Load(); open.Load() != 0 || wrong.Load() != 0 || n < 200 || n > 320 {
		t.Errorf("of %d readers %d are open, %d reads were by another than the owner", n, open.Load(), wrong.Load())
	}
}

// owned is a reader that counts what only one which is not its owner does.
type owned struct {
	io.Reader
	busy, over  atomic.Bool
	open, wrong *atomic.Int64
}

func (r *owned) Read(p []byte) (int, error) {
	if r.over.Load() || r.busy.Swap(true) {
		r.wrong.Add(1)
	}
	time.Sleep(200 * time.Microsecond) // as a disk does
	defer r.busy.Store(false)
	return r.Reader.Read(p)
}

func (r *owned) Close() error {
	if r.busy.Load() || r.over.Swap(true) {
		r.wrong.Add(1)
	}
	r.open.Add(-1)
	return nil
}

// TestManyRanges bounds what is read for one request, whatever ranges it names.
func TestManyRanges(t *testing.T) {
	data := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{}).Read(data)
	d := digest.FromBytes(data)
	var opened, read atomic.Int64
	h := &Handler{repos: map[string]*repository{"img": {}}, from: contents{d: blob{int64(len(data)), func(off int64) (io.ReadCloser, error) {
		opened.Add(1)
		return io.NopCloser(io.TeeReader(bytes.NewReader(data[off:]), counted(func(n int64) { read.Add(n) }))), nil
	}}}}
	address := "http://" + start(t, h, usual, nil) + "/v2/img/blobs/" + d.String()
	var backward []string
	for n := range 2000 {
		backward = append(backward, fmt.Sprintf("%d-%d", len(data)-2000*n-1000, len(data)-2000*n-1))
	}
	if got := get(t, address, "bytes="+strings.Join(backward, ",")); !bytes.Equal(got, data) {
		t.Errorf("the answer has %d bytes, and is not the whole blob", len(got))
	}
	if opened.Load() != 1 || read.Load() != int64(len(data)) {
		t.Errorf("%d readers were opened, and %d bytes read of %d", opened.Load(), read.Load(), len(data))
	}
	// Of a range no more is read than is sent.
	opened.Store(0)
	read.Store(0)
	if got := get(t, address, "bytes=100000-299999"); !bytes.Equal(got, data[100_000:300_000]) || opened.Load() != 1 || read.Load() != 200_000 {
		t.Errorf("for a range %d readers were opened, and %d bytes read", opened.Load(), read.Load())
	}
}

// TestStreams has a client of HTTP/2 end many of its requests early, on the connection on
// which others go on.
func TestStreams(t *testing.T) {
	made := httptest.NewTLSServer(nil) // for its certificate
	cert := made.TLS.Certificates[0]
	roots := made.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	made.Close()
	layer := manyFiles(t)
	h, err := New(shippedOn(t, string(layer), bundle.FileOptions{}, "host:5000/img:1"))
	if err != nil {
		t.Fatal(err)
	}
	address := "https://" + start(t, h, usual, &cert) + "/v2/img/blobs/" + digest.FromBytes(layer).String()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	client := &http.Client{Transport: tr}
	defer tr.CloseIdleConnections()
	if err := honest(t.Context(), client, address, layer, rand.New(rand.NewPCG(0, 0))); err != nil {
		t.Fatal(err)
	}
	before := settled(t, nil)
	var clients sync.WaitGroup
	for seed := range uint64(12) {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(seed, 4))
			for range 25 {
				if seed < 4 {
					if err := honest(t.Context(), client, address, layer, random); err != nil {
						t.Error(err)
					}
					continue
				}
				ctx, cancel := context.WithCancel(t.Context())
				q, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
				if err != nil {
					t.Error(err)
				}
				if resp, err := client.Do(q); err != nil || resp.ProtoMajor != 2 {
					t.Errorf("%v, %v", resp, err)
				} else if _, err := io.CopyN(io.Discard, resp.Body, random.Int64N(60_000)); err != nil {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	clients.Wait()
	after := settled(t, func(now use) bool { return now.files <= before.files && now.goroutines <= before.goroutines })
	if after.files > before.files || after.goroutines > before.goroutines {
		t.Errorf("before there were %+v, and %+v are left", before, after)
	}
}
