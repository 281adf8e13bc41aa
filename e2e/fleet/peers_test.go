//go:build e2e

package fleet

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// node is a host of its own on the network: a network namespace.
type node struct {
	name   string
	by     []string // runs a program there
	origin *front
	hosts  string // its certs.d
	user   *kit.User
	c      *kit.Containerd
}

// front is the way of one node to the registry. It counts.
type front struct {
	url              string
	blobs, manifests atomic.Int64
}

// newFront listens at an address of this machine, for the registry at addr.
func newFront(t *testing.T, at, addr string) *front {
	t.Helper()
	l, err := net.Listen("tcp", at+":0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{url: "http://" + l.Addr().String()}
	to := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case strings.Contains(q.URL.Path, "/blobs/"):
			f.blobs.Add(1)
		case strings.Contains(q.URL.Path, "/manifests/"):
			f.manifests.Add(1)
		}
		to.ServeHTTP(w, q)
	}))
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return f
}

// twoNodes makes two nodes that have a cable to the registry's machine each, and one
// between them.
func twoNodes(t *testing.T, registry string) (a, b *node, subnet string) {
	t.Helper()
	id := rand.N(100_000)
	subnet = fmt.Sprintf("198.18.%d.", rand.N(256)) // for tests of networks, RFC 2544
	ip := func(args ...string) { t.Helper(); kit.Run(t, "ip", args...) }
	add := func(letter string) *node {
		n := &node{name: fmt.Sprintf("fp%d%s", id, letter), hosts: t.TempDir()}
		ip("netns", "add", n.name)
		t.Cleanup(func() {
			if out, err := exec.Command("ip", "netns", "del", n.name).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
		ip("-n", n.name, "link", "set", "lo", "up")
		n.by = []string{"nsenter", "--net=/run/netns/" + n.name} // ip netns exec would hide cgroups
		return n
	}
	a, b = add("a"), add("b")
	// Each cable has four addresses, of which two are for hosts.
	plug := func(n *node, letter string, address int) {
		end := fmt.Sprintf("fp%d%s", id, letter)
		ip("link", "set", end, "netns", n.name)
		ip("-n", n.name, "addr", "add", fmt.Sprintf("%s%d/30", subnet, address), "dev", end)
		ip("-n", n.name, "link", "set", end, "up")
	}
	for i, n := range []*node{a, b} {
		here, there := fmt.Sprintf("fp%do%d", id, i), fmt.Sprintf("x%d", i)
		ip("link", "add", here, "type", "veth", "peer", "name", fmt.Sprintf("fp%d%s", id, there))
		ip("addr", "add", fmt.Sprintf("%s%d/30", subnet, 4*i+1), "dev", here)
		ip("link", "set", here, "up")
		plug(n, there, 4*i+2)
		n.origin = newFront(t, fmt.Sprintf("%s%d", subnet, 4*i+1), registry)
	}
	ip("link", "add", fmt.Sprintf("fp%dy0", id), "type", "veth", "peer", "name", fmt.Sprintf("fp%dy1", id))
	plug(a, "y0", 9)
	plug(b, "y1", 10)
	for _, n := range []*node{a, b} {
		n.c = kit.StartContainerd(t, kit.ContainerdOptions{Release: kit.Today, By: n.by})
		n.user = n.c.User(t)
		n.user.By = n.by
	}
	return a, b, subnet
}

// mirrors writes the hosts.toml of a node: the registry, and mirrors before it.
func (n *node) mirrors(t *testing.T, urls ...string) {
	t.Helper()
	text := fmt.Sprintf("server = %q\n", n.origin.url)
	for _, u := range urls {
		text += fmt.Sprintf("[host.%q]\n", u)
	}
	kit.WriteFile(t, filepath.Join(n.hosts, "registry.invalid/hosts.toml"), text)
}

// TestPeers has two nodes, each with a network and a containerd of its own. The first one gets
// images from the registry, and serves them. The second one gets them from the first, by its
// hosts.toml: it asks the registry for nothing. When the first one is gone, the registry is
// asked.
func TestPeers(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	a, b, subnet := twoNodes(t, s.Reg.Addr)
	refs := []string{"registry.invalid/one:1", "registry.invalid/two/deep:2", "registry.invalid/three:3"}
	a.mirrors(t)
	a.user.Fastpull(t, append([]string{"--containerd", "--hosts-dir", a.hosts}, refs...)...).Expect(t, 0)
	if a.origin.blobs.Load() == 0 {
		t.Error("the first node has not asked the registry")
	}
	serving := a.user.Start(t, "serve", "--listen", ":5000", "--containerd")
	if !kit.Eventually(time.Minute, func() bool { status, _ := answer("http://" + subnet + "2:5000/v2/"); return status == 200 }) {
		t.Fatalf("the first node does not serve: %s", serving.Err.String())
	}
	http.DefaultClient.CloseIdleConnections()

	s.Reg.Traffic(t)
	b.mirrors(t, "http://"+subnet+"9:5000")
	sum := b.user.Fastpull(t, append([]string{"--containerd", "--hosts-dir", b.hosts, "--json"}, refs[:2]...)...).Expect(t, 0).Summary(t)
	for i, im := range sum.Images {
		if im.Status != "pulled" || im.Digest != s.Images[i].Digest.String() {
			t.Errorf("%+v, want the digest %s", im, s.Images[i].Digest)
		}
		if got := b.c.Ctr(t, "run", "--rm", refs[i], fmt.Sprintf("peer-%d", i)); got != kit.Words[i] {
			t.Errorf("%s prints %q", refs[i], got)
		}
	}
	traffic := s.Reg.Traffic(t)
	if blobs, bytes := traffic.Blobs(); blobs != 0 || traffic.Manifests() != 0 || sum.BytesFetched == 0 {
		t.Errorf("the registry answered %d requests for blobs (%d bytes) and %d for manifests, of %d bytes fetched", blobs, bytes, traffic.Manifests(), sum.BytesFetched)
	}
	if n := b.origin.blobs.Load() + b.origin.manifests.Load(); n != 0 {
		t.Errorf("the second node has asked the registry %d times", n)
	}

	serving.Signal(t, syscall.SIGINT)
	serving.Wait(t)
	b.user.Fastpull(t, "--containerd", "--hosts-dir", b.hosts, refs[2]).Expect(t, 0)
	if b.origin.manifests.Load() == 0 {
		t.Error("without a peer, the registry was not asked")
	}
}
