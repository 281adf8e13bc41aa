//go:build e2e

package engine

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestAPI140 loads into an Engine by version 1.40 of its API, the last one that Docker 19.03
// speaks. The Engine is a later one behind a proxy, which announces that version and refuses
// later ones with the words of 19.03.
func TestAPI140(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	layers := []kit.Layer{kit.NoiseLayer(t, 5<<20, 3), kit.BaseLayer(t, 0), kit.NoiseLayer(t, 5<<20, 1), kit.NoiseLayer(t, 5<<20, 2), kit.SmallLayer(t, "word", "by 1.40\n")}
	im := kit.MakeImage(t, kit.ImageSpec{Layers: layers, Cmd: []string{"/bin/cat", "/word"}})
	ref := reg.Push(t, "img:1", im)
	broken := kit.PlantUnpigz(t, "unpigz", "pigz")
	d := kit.StartDockerd(t, kit.DockerdOptions{PathFirst: broken.Dir})
	p := startAPI140(t, d.Sock)
	u := kit.NewUser(t, "DOCKER_HOST=unix://"+p.sock)

	u.Fastpull(t, "--load", ref).Expect(t, 0, im.Digest.String())
	if got := d.Must(t, "run", "--rm", "--network", "none", ref); got != "by 1.40" {
		t.Errorf("docker run prints %q", got)
	}
	if sum := u.Fastpull(t, "--load", "--json", ref).Expect(t, 0).Summary(t); sum.BytesSent > 0 || sum.Images[0].Status != "exists" {
		t.Errorf("the second time: %+v", sum)
	}
	d.Must(t, "rmi", "-f", ref)
	file := filepath.Join(t.TempDir(), "images.tar")
	u.Fastpull(t, "bundle", "-o", file, ref).Expect(t, 0)
	u.Fastpull(t, "load", "--load", file).Expect(t, 0)
	if got := d.Inspect(t, ref).ID; got != im.ID.String() {
		t.Errorf("image ID %s, want %s", got, im.ID)
	}
	if pids := broken.Starts(t); len(pids) > 0 {
		t.Errorf("the Engine has run a decompressor: %v", pids)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.refused) > 0 || p.answered == 0 {
		t.Errorf("%d requests by 1.40; refused: %q", p.answered, p.refused)
	}
}

// api140 is a proxy before an Engine that knows no later version than 1.40.
type api140 struct {
	sock string

	mu       sync.Mutex
	answered int      // requests with a version in their path
	refused  []string // their paths
}

var versioned = regexp.MustCompile(`^/v1\.(\d\d)/`)

func startAPI140(t *testing.T, engine string) *api140 {
	t.Helper()
	p := &api140{}
	p.sock = proxyEngine(t, engine, func(w http.ResponseWriter, r *http.Request) bool {
		m := versioned.FindStringSubmatch(r.URL.Path)
		if m == nil {
			return false
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.answered++
		if m[1] <= "40" {
			return false
		}
		p.refused = append(p.refused, r.URL.Path)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"message":"client version 1.%s is too new. Maximum supported API version is 1.40"}`, m[1])
		return true
	}, func(r *http.Response) error {
		if r.Header.Get("Api-Version") != "" {
			r.Header.Set("Api-Version", "1.40")
			r.Header.Set("Server", "Docker/19.03.15 (linux)")
		}
		return nil
	})
	return p
}

// proxyEngine starts a proxy before an Engine, and returns its socket. It passes on what answers
// does not answer, and changes the Engine's answers.
func proxyEngine(t *testing.T, engine string, answers func(http.ResponseWriter, *http.Request) bool, change func(*http.Response) error) (sock string) {
	t.Helper()
	sock = filepath.Join(kit.ShortTempDir(t), "s")
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "docker"})
	proxy.FlushInterval = -1 // answers come line by line
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", engine)
	}}
	proxy.ModifyResponse = change
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !answers(w, r) {
			proxy.ServeHTTP(w, r)
		}
	})}
	go server.Serve(l)
	t.Cleanup(func() {
		if err := server.Close(); err != nil && !strings.Contains(err.Error(), "closed") {
			t.Error(err)
		}
	})
	return sock
}
