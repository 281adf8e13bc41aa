package testkit

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// SocketDir returns a temporary directory for sockets. The path of a socket may have 107
// bytes, and a directory of the test's own has its name in it.
func SocketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ServeSocket starts a server on a Unix socket that runs until the end of the test, and
// returns its address as DOCKER_HOST has it.
func ServeSocket(t testing.TB, h http.Handler) (host string) {
	t.Helper()
	socket := filepath.Join(SocketDir(t), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return "unix://" + socket
}
