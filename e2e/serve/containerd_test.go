//go:build e2e

package serve

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fastpull/fastpull/e2e/kit"
)

// holds returns what a containerd has, and what keeps it.
func holds(t *testing.T, c *kit.Containerd) []string {
	t.Helper()
	return slices.Concat(c.Content(t), c.Snapshots(t), c.Lines(t, "images", "ls"), c.Lines(t, "leases", "ls"))
}

// TestContainerd serves what containerd has by itself and by fastpull. All clients pull from
// there, another containerd as from a mirror, and the registry is not asked. What was not
// pulled is not there, and nothing in containerd changes.
func TestContainerd(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]kit.Release{"1.6": kit.Debian, "2.4": kit.Today} {
		other := map[kit.Release]kit.Release{kit.Debian: kit.Today, kit.Today: kit.Debian}[r]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := kit.NewShipment(t)
			here := kit.MakeImage(t, kit.ImageSpec{OCI: true, Layers: s.Images[2].Layers, Cmd: []string{"/bin/cat", "/word"}})
			foreign := kit.MakeImage(t, kit.ImageSpec{OCI: true, Platform: "linux/s390x", Layers: []kit.Layer{kit.SmallLayer(t, "word", "foreign\n")}})
			index, _ := s.Reg.PushIndex(t, "index:1", here, foreign)
			c := kit.StartContainerd(t, kit.ContainerdOptions{Release: r})
			u := c.User(t)
			c.Pull(t, s.Refs[0])
			u.Fastpull(t, "--containerd", s.Refs[1], s.Refs[2], index).Expect(t, 0)
			before := holds(t, c)

			addr := kit.FreePort(t)
			serving := u.Serve(t, addr, "--containerd")
			s.Reg.Traffic(t)
			stop := hammer(t, serving, addr, "one:1")
			s.PulledFrom(t, kit.StartDockerd(t, kit.DockerdOptions{}), addr, filepath.Join(t.TempDir(), "store"), 0)
			stop()
			for _, d := range []v1.Hash{foreign.Digest, foreign.ID, foreign.Layers[0].Digest} {
				for _, kind := range []string{"manifests", "blobs"} {
					if status := statusOf(t, "http://"+addr+"/v2/index/"+kind+"/"+d.String()); status != http.StatusNotFound {
						t.Errorf("%s of another platform: %d", kind, status)
					}
				}
			}
			if after := holds(t, c); !slices.Equal(after, before) {
				t.Errorf("containerd has\n%s\nand had\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
			}
			// It asks the mirror alone: the name leads to no registry.
			hosts := t.TempDir()
			kit.WriteFile(t, filepath.Join(hosts, s.Reg.Addr, "hosts.toml"), fmt.Sprintf("server = \"http://127.0.0.1:1\"\n[host.%q]\n", "http://"+addr))
			second := kit.StartContainerd(t, kit.ContainerdOptions{Release: other})
			for i, ref := range []string{s.Refs[0], s.Refs[1], index} {
				second.Pull(t, ref, "--hosts-dir", hosts)
				if got := second.Ctr(t, "run", "--rm", ref, fmt.Sprintf("mirrored-%d-%d", r, i)); got != kit.Words[i] {
					t.Errorf("%s prints %q", ref, got)
				}
			}
			traffic := s.Reg.Traffic(t)
			if blobs, _ := traffic.Blobs(); blobs != 0 || traffic.Manifests() != 0 {
				t.Errorf("the registry was asked for %d blobs and %d manifests", blobs, traffic.Manifests())
			}
			serving.Signal(t, syscall.SIGINT)
			serving.Wait(t).Expect(t, 0, "docker pull "+addr+"/one:1", "docker pull "+addr+"/index:1")
		})
	}
}

// TestContainerdCollects has containerd remove an image and its blobs while one of them is
// being sent: it is sent to its end. A blob of the next request is gone.
func TestContainerdCollects(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]kit.Release{"1.6": kit.Debian, "2.4": kit.Today} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := kit.StartRegistry(t, kit.RegistryOptions{})
			// Far more than is in the sockets on the way.
			im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 64<<20, 2)}})
			kept := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "word", "kept\n")}})
			refs := []string{reg.Push(t, "img:1", im), reg.Push(t, "img:2", kept)}
			c := kit.StartContainerd(t, kit.ContainerdOptions{Release: r})
			u := c.User(t)
			u.Fastpull(t, append([]string{"--containerd"}, refs...)...).Expect(t, 0)
			addr := kit.FreePort(t)
			u.Serve(t, addr, "--containerd")

			client := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Control: narrow}).DialContext}}
			defer client.CloseIdleConnections()
			url := "http://" + addr + "/v2/img/blobs/" + im.Layers[0].Digest.String()
			resp, err := client.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			first := make([]byte, 1)
			if _, err := io.ReadFull(resp.Body, first); err != nil {
				t.Fatal(err)
			}
			c.Ctr(t, "images", "rm", "--sync", refs[0])
			if status := statusOf(t, url); status != http.StatusNotFound {
				t.Errorf("after it was collected: %d", status)
			}
			rest, err := io.ReadAll(resp.Body)
			if got := kit.HashOf(append(first, rest...)); err != nil || got != im.Layers[0].Digest {
				t.Errorf("%d bytes, %v", 1+len(rest), err)
			}
			if status := statusOf(t, "http://"+addr+"/v2/img/manifests/2"); status != http.StatusOK {
				t.Errorf("the other image: %d", status)
			}
		})
	}
}

// narrow has the kernel take little of what is not read.
func narrow(_, _ string, c syscall.RawConn) (err error) {
	cerr := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<10) })
	if cerr != nil {
		return cerr
	}
	return err
}

// statusOf returns the status of an answer.
func statusOf(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
