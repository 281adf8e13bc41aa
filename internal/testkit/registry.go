// Package testkit has what tests of several packages need: registries in memory, sockets
// for Engines, images, tars and compressed streams.
//
// It imports no other package of this module but fault, so that all of them can use it. Package
// e2e/kit has what only the end-to-end tests need.
package testkit

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// RegistryHandler returns a registry that keeps images in memory and logs nothing.
func RegistryHandler(o ...ggcr.Option) http.Handler {
	return ggcr.New(append([]ggcr.Option{ggcr.Logger(log.New(io.Discard, "", 0))}, o...)...)
}

// Registry starts a registry in memory that runs until the end of the test, and returns its
// host, such as 127.0.0.1:5000.
func Registry(t testing.TB, o ...ggcr.Option) (host string) {
	t.Helper()
	return Serve(t, RegistryHandler(o...))
}

// Serve starts a server on the loopback that runs until the end of the test, and returns
// its host.
func Serve(t testing.TB, h http.Handler) (host string) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// Put pushes an image or an index, with all that it consists of, under a name such as
// 127.0.0.1:5000/img:1.
func Put(t testing.TB, as string, what remote.Taggable) {
	t.Helper()
	ref, err := name.ParseReference(as, name.Insecure)
	if err == nil {
		err = remote.Push(ref, what)
	}
	if err != nil {
		t.Fatalf("push %s: %v", as, err)
	}
}
