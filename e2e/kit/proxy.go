//go:build e2e

package kit

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fastpull/fastpull/internal/faulty"
)

// Gate is a registry that can stand still in the midst of a pull. It answers
// like the one behind it; once armed, it holds every blob when a number of
// blob bytes have gone out, until it is opened.
type Gate struct {
	Addr string
	srv  *httptest.Server

	mu      sync.Mutex
	only    string // the digest of the blob that is held, "" for all
	limit   int64
	served  int64         // since it was armed
	reached chan struct{} // closed when the limit is
	opened  chan struct{} // closed when it is open
}

// StartGate puts one before r, open. It ends with the test.
func StartGate(t *testing.T, r *Registry) *Gate {
	t.Helper()
	g := &Gate{reached: make(chan struct{}), opened: make(chan struct{})}
	close(g.opened)
	back := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: r.scheme, Host: r.Addr})
	back.FlushInterval = -1
	back.ErrorLog = log.New(io.Discard, "", 0) // clients that go are the point of it
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.Contains(req.URL.Path, "/blobs/") {
			w = &gatedWriter{ResponseWriter: w, gate: g, ctx: req.Context(), path: req.URL.Path}
		}
		back.ServeHTTP(w, req)
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(g.Open)
	g.Addr, g.srv = srv.Listener.Addr().String(), srv
	return g
}

// Die ends the gate, in the midst of whatever it is sending.
func (g *Gate) Die() {
	g.srv.Listener.Close()
	g.srv.CloseClientConnections()
}

// Arm lets limit more bytes through, and holds all blobs after them.
func (g *Gate) Arm(limit int64) { g.arm("", limit) }

// ArmBlob holds one blob, and lets the others through.
func (g *Gate) ArmBlob(blob v1.Hash) { g.arm(blob.String(), 0) }

func (g *Gate) arm(only string, limit int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.only, g.limit, g.served = only, limit, 0
	g.reached, g.opened = make(chan struct{}), make(chan struct{})
}

// Open lets everything through from now on.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
	default:
		close(g.opened)
	}
}

// pass counts n bytes of a path before they are sent, and returns what to wait for first.
func (g *Gate) pass(path string, n int) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !strings.HasSuffix(path, g.only) {
		return nil
	}
	before := g.served
	g.served += int64(n)
	if g.served <= g.limit {
		return nil
	}
	if before <= g.limit {
		close(g.reached)
	}
	return g.opened
}

// WaitReached waits until the gate has stopped the pull. If that takes too long, the test fails
// and shows said.
func (g *Gate) WaitReached(t *testing.T, said fmt.Stringer) {
	t.Helper()
	g.mu.Lock()
	reached := g.reached
	g.mu.Unlock()
	select {
	case <-reached:
	case <-time.After(time.Minute):
		t.Fatalf("fastpull has not fetched %d bytes within a minute\n%s", g.limit, said)
	}
}

type gatedWriter struct {
	http.ResponseWriter
	gate *Gate
	ctx  context.Context // of the request that it answers
	path string          // of the request
}

// Unwrap lets http.ResponseController flush.
func (w *gatedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *gatedWriter) Write(p []byte) (int, error) {
	if opened := w.gate.pass(w.path, len(p)); opened != nil {
		select {
		case <-opened:
		case <-w.ctx.Done():
			return 0, w.ctx.Err()
		}
	}
	return w.ResponseWriter.Write(p)
}

// StartTunnel starts an HTTP proxy that takes every CONNECT to addr, whatever
// host was meant. It ends with the test.
func StartTunnel(t *testing.T, addr string) (proxyURL string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodConnect {
			http.Error(w, "this proxy takes CONNECT only", http.StatusMethodNotAllowed)
			return
		}
		out, err := net.Dial("tcp", addr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		in, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			out.Close()
			return
		}
		fmt.Fprint(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			io.Copy(out, in)
			out.Close()
		}()
		io.Copy(in, out)
		in.Close()
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// Tap is a socket before a Docker Engine's that counts what is sent to it.
type Tap struct {
	Sock string
	Sent atomic.Int64
}

// StartTap puts one before the socket at path. It ends with the test.
func StartTap(t *testing.T, path string) *Tap {
	t.Helper()
	tp := &Tap{Sock: filepath.Join(ShortTempDir(t), "s")}
	l, err := net.Listen("unix", tp.Sock)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { l.Close(); cancel(); wg.Wait() })
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { tp.carry(ctx, in.(*net.UnixConn), path) })
		}
	})
	return tp
}

// carry copies both ways until both have ended, closing each half as its
// source does: the Engine takes the end of the request for what it is.
func (tp *Tap) carry(ctx context.Context, in *net.UnixConn, path string) {
	defer in.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		return
	}
	out := conn.(*net.UnixConn)
	defer out.Close()
	defer context.AfterFunc(ctx, func() { in.Close(); out.Close() })()
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(io.MultiWriter(out, (*counter)(&tp.Sent)), in)
		out.CloseWrite()
	})
	wg.Go(func() {
		io.Copy(in, out)
		in.CloseWrite()
	})
	wg.Wait()
}

// counter is a writer that counts.
type counter atomic.Int64

func (c *counter) Write(p []byte) (int, error) {
	(*atomic.Int64)(c).Add(int64(len(p)))
	return len(p), nil
}

// StartFaulty puts a proxy before r that ends with the test.
func StartFaulty(t *testing.T, r *Registry, o faulty.Options) *faulty.Proxy {
	t.Helper()
	o.Registry = r.scheme + "://" + r.Addr
	p, err := faulty.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}
