//go:build e2e && spegel

package fleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// startSpegel runs $FASTPULL_SPEGEL on a node, at an address of it. Peers find each other by
// the first one.
func (n *node) startSpegel(t *testing.T, at, first string) *kit.LogBuffer {
	t.Helper()
	out := &kit.LogBuffer{}
	cmd := kit.By(t, exec.Command(os.Getenv("FASTPULL_SPEGEL"), "registry", "--containerd-sock", n.c.Sock, "--containerd-namespace", "e2e",
		"--containerd-content-path", filepath.Join(n.c.Root, "io.containerd.content.v1.content"),
		"--registry-addr", ":5000", "--router-addr", at+":5001", "--metrics-addr", ":9090", "--mirror-resolve-timeout", "10s",
		"--bootstrap-kind", "http", "--http-bootstrap-addr", ":5002", "--http-bootstrap-peer", "http://"+first+":5002"), n.by...)
	cmd.Stdout, cmd.Stderr = out, out
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("spegel:\n%s", out.Tail())
		}
	})
	kit.StartServer(t, cmd, 10*time.Second)
	return out
}

// TestSpegel has Spegel run on two nodes. It finds what fastpull puts into the containerd of one
// of them, an image that is there first and those that come later, and serves it to the other.
// There fastpull and containerd itself pull from it, and can reach no registry.
func TestSpegel(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	a, b, subnet := twoNodes(t, s.Reg.Addr)
	refs := []string{"registry.invalid/one:1", "registry.invalid/two/deep:2", "registry.invalid/three:3"}
	a.mirrors(t)
	a.user.Fastpull(t, "--containerd", "--hosts-dir", a.hosts, refs[0]).Expect(t, 0)
	said := a.startSpegel(t, subnet+"9", subnet+"9")
	b.startSpegel(t, subnet+"10", subnet+"9")
	if !kit.Eventually(time.Minute, func() bool { return strings.Contains(said.String(), "waiting for store events") }) {
		t.Fatal("Spegel does not watch containerd")
	}
	a.user.Fastpull(t, append([]string{"--containerd", "--hosts-dir", a.hosts}, refs[1:]...)...).Expect(t, 0)
	// Nothing else has the images. Spegel finds none where a peer does not answer within 100 ms.
	b.origin = &front{url: "http://127.0.0.1:1"}
	b.mirrors(t, "http://127.0.0.1:5000")
	if !kit.Eventually(2*time.Minute, func() bool {
		return b.user.Fastpull(t, append([]string{"--containerd", "--hosts-dir", b.hosts}, refs[:2]...)...).Code == 0
	}) {
		t.Fatal("fastpull gets no image from Spegel")
	}
	if !kit.Eventually(2*time.Minute, func() bool { return b.c.Command("images", "pull", "--hosts-dir", b.hosts, refs[2]).Run() == nil }) {
		t.Fatal("containerd gets no image from Spegel")
	}
	for i, ref := range refs {
		if got := b.c.Ctr(t, "run", "--rm", ref, fmt.Sprintf("peer-%d", i)); got != kit.Words[i] {
			t.Errorf("%s prints %q", ref, got)
		}
	}
}
