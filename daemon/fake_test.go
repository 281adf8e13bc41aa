package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/system"

	"github.com/fastpull/fastpull/internal/testkit"
)

// fake is an Engine of which a test decides what it does.
type fake struct {
	api    string // version of the API, "1.41" if empty
	info   system.Info
	load   http.HandlerFunc
	images http.HandlerFunc // everything below /images/ but load
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	api := f.api
	if api == "" {
		api = "1.41"
	}
	_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v"), "/")
	switch {
	case path == "_ping":
		w.Header().Set("Api-Version", api)
	case path == "info":
		info := f.info
		info.ServerVersion = "20.10.24"
		json.NewEncoder(w).Encode(info)
	case path == "images/load" && f.load != nil:
		f.load(w, r)
	case f.images != nil:
		r.URL.Path = "/" + path
		f.images(w, r)
	default:
		fail(w, http.StatusNotFound, "page not found")
	}
}

func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"message": message})
}

// say sends one message of a load's stream at once.
func say(w http.ResponseWriter, format string, args ...any) {
	fmt.Fprintf(w, format+"\r\n", args...)
	http.NewResponseController(w).Flush()
}

// dialFake connects to an Engine that runs on a socket.
func dialFake(t *testing.T, f *fake) *Engine {
	t.Helper()
	e, err := Connect(t.Context(), Options{Host: testkit.ServeSocket(t, f)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// pipeFake connects to an Engine over pipes without any buffer, inside of a
// bubble of package synctest. The bubble ends only if nothing of the Engine
// and of its client is left running. Stop must be called at its end.
func pipeFake(t *testing.T, f *fake, o Options) (e *Engine, stop func()) {
	t.Helper()
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	srv := &http.Server{Handler: f}
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(l) })
	e, err := connect(t.Context(), o, endpoint{url: "unix:///pipe"}, &dialer{connect: l.dial})
	if err != nil {
		t.Fatal(err)
	}
	return e, func() {
		e.Close()
		srv.Close()
		wg.Wait()
	}
}

type pipeListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// zeros is a source without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// blocked is a source that gives nothing before it is closed.
type blocked struct {
	once   sync.Once
	closed chan struct{}
}

func newBlocked() *blocked { return &blocked{closed: make(chan struct{})} }

func (b *blocked) Read([]byte) (int, error) {
	<-b.closed
	return 0, io.ErrClosedPipe
}

func (b *blocked) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}
