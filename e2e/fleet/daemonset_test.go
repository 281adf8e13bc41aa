//go:build e2e

package fleet

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// ownImage makes the image of fastpull that is tested, pushes it to a registry, and returns
// its name there. The program for the other platform is none.
func ownImage(t *testing.T, reg *kit.Registry) string {
	t.Helper()
	file, none := filepath.Join(t.TempDir(), "image.tar"), filepath.Join(t.TempDir(), "none")
	kit.WriteFile(t, none, "for another machine")
	other := "arm64"
	if runtime.GOARCH == other {
		other = "amd64"
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", "github.com/fastpull/fastpull/deploy/image", "-o", file, "-name", reg.Addr+"/fastpull:v1",
		"-version", "v1", "-created", "1700000000", "linux/"+other+"="+none, "linux/"+runtime.GOARCH+"="+kit.Programs.Fastpull)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	kit.Fastpull(t, "push", file).Expect(t, 0)
	// And into a store, by the bundle.
	store := filepath.Join(t.TempDir(), "store")
	kit.Fastpull(t, "load", "--store", store, file).Expect(t, 0, "fastpull:v1")
	return reg.Addr + "/fastpull:v1"
}

// configMap is a volume as the kubelet makes it: files are links into a folder that is
// exchanged as a whole.
type configMap struct {
	dir string
	n   int
}

func (c *configMap) write(t *testing.T, name, text string) {
	t.Helper()
	c.n++
	version := fmt.Sprintf("..v%d", c.n)
	kit.WriteFile(t, filepath.Join(c.dir, version, name), text)
	link := filepath.Join(c.dir, "..data_tmp")
	if err := os.Symlink(version, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link, filepath.Join(c.dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..data/"+name, filepath.Join(c.dir, name)); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
}

// answer returns the status and the body of an answer, 0 if there is none.
func answer(url string) (status int, body string) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data)
}

// TestDaemonSet runs the pod of the manifest, with its mounts, its rights and its limits, on a
// containerd whose decompressors hang. The pod brings the images of its list and is ready
// then, follows the list, and other pods start from the images while no registry of that name
// can be reached.
func TestDaemonSet(t *testing.T) {
	t.Parallel()
	_, pod, _ := build(t, "base")
	s := kit.NewShipment(t)
	s.Reg.Push(t, "pause:1", kit.MakeImage(t, kit.ImageSpec{Layers: s.Images[0].Layers[:1], Cmd: []string{"/bin/sleep", "600"}}))
	tricky := kit.TrickyImage(t, "")
	s.Reg.Push(t, "tricky:1", tricky)
	own := ownImage(t, s.Reg)
	hosts := t.TempDir()
	kit.WriteFile(t, filepath.Join(hosts, "registry.invalid/hosts.toml"), fmt.Sprintf("[host.%q]\n", "http://"+s.Reg.Addr))
	refs := []string{"registry.invalid/one:1", "registry.invalid/two/deep:2", "registry.invalid/three:3"}
	// As the Secret of the manifest is mounted.
	private := kit.StartRegistry(t, kit.RegistryOptions{Password: true})
	secret := private.Push(t, "secret:1", kit.WordImage(t, "secret", s.Images[0].Layers[0]))
	credentials := t.TempDir()
	kit.WriteFile(t, filepath.Join(credentials, "config.json"), fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, private.Addr,
		base64.StdEncoding.EncodeToString([]byte(kit.RegistryUser+":"+kit.RegistryPassword))))
	// Debian's runc filters system calls; the one that is built here cannot.
	for name, r := range map[string]kit.Release{"1.6": kit.Debian, "2.4": kit.Today} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := kit.PlantUnpigz(t, "unpigz", "igzip")
			c := kit.StartContainerd(t, kit.ContainerdOptions{Release: r, PathFirst: broken.Dir, CRI: true})
			c.Namespace = "k8s.io"
			u := kit.NewUser(t, "CONTAINERD_ADDRESS="+c.Sock)
			u.Fastpull(t, "--containerd", "--hosts-dir", hosts, kit.PauseImage).Expect(t, 0)
			c.Crictl(t, "pull", own) // the kubelet does, of plain layers
			list := &configMap{dir: t.TempDir()}
			list.write(t, "images.txt", "# for all nodes\n"+refs[0]+"\nregistry.invalid/tricky:1\n"+secret+"\n")
			at := kit.FreePort(t)
			p := c.StartPod(t, translated(t, pod.Containers[0], own, substitutes{
				volumes: map[string]string{"socket": c.Sock, "root": c.Root, "mirrors": hosts, "images": list.dir, "registries": credentials},
				paths:   map[string]string{"/var/lib/containerd": c.Root},
				args:    map[string]string{"--listen=:9478": "--listen=" + at},
				seccomp: r == kit.Debian,
			}))
			defer p.Remove(t)
			ready(t, p, at, "3 images")
			for ref, want := range map[string]string{refs[0]: kit.Words[0], secret: "secret"} {
				if got := c.InPod(t, ref); got != want {
					t.Errorf("a pod of %s prints %q", ref, got)
				}
			}
			expectTricky(t, c, u, hosts, tricky)

			list.write(t, "images.txt", refs[0]+"\n"+refs[2]+"\n"+refs[1]+"\n")
			if !kit.Eventually(time.Minute, func() bool {
				_, metrics := answer("http://" + at + "/metrics")
				return strings.Contains(metrics, `fastpull_image_present{reference="`+refs[2]+`"} 1`)
			}) {
				t.Fatalf("the pod does not follow its list\n%s", p.Said("stdout"))
			}
			ready(t, p, at, "3 images")
			if got := c.InPod(t, refs[2]); got != kit.Words[2] {
				t.Errorf("a pod of %s prints %q", refs[2], got)
			}
			if code := p.Stop(t); code != 0 {
				t.Errorf("the pod ends with %d", code)
			}
			expectReports(t, p, []string{refs[0], refs[2], refs[1]})
			if pids := broken.Starts(t); len(pids) > 0 {
				t.Errorf("containerd has run a decompressor: %v", pids)
			}
		})
	}
}

// ready waits until a pod is ready.
func ready(t *testing.T, p *kit.Pod, at, words string) {
	t.Helper()
	var status int
	var body string
	if !kit.Eventually(time.Minute, func() bool {
		status, body = answer("http://" + at + "/readyz")
		return status == 200 && body == words+"\n"
	}) {
		t.Fatalf("the pod is not ready: %d %s\nstdout:\n%s\nstderr:\n%s", status, body, p.Said("stdout"), p.Said("stderr"))
	}
}

// expectTricky compares the layers that a pod has extracted with those of root of the machine.
func expectTricky(t *testing.T, c *kit.Containerd, u *kit.User, hosts string, tricky kit.Image) {
	t.Helper()
	begun := time.Now().Add(-time.Hour)
	u.Fastpull(t, "--containerd", "--namespace", "e2e", "--hosts-dir", hosts, "registry.invalid/tricky:1").Expect(t, 0)
	right := *c
	right.Namespace = "e2e"
	got, want := c.Layers(t, tricky.ChainID()), right.Layers(t, tricky.ChainID())
	if len(got) != len(want) || slices.Equal(got, want) {
		t.Fatalf("layers %q and %q", got, want)
	}
	for i := range got {
		kit.ExpectSame(t, fmt.Sprintf("layer %d", i), kit.CompareTrees(t, got[i], want[i], kit.TreeOptions{MadeUp: begun}))
	}
}

// expectReports reads what a pod has printed: a report of the first list and of the second
// one, whose images are given, and nothing else.
func expectReports(t *testing.T, p *kit.Pod, second []string) {
	t.Helper()
	if said := p.Said("stderr"); said != "" {
		t.Errorf("the pod says:\n%s", said)
	}
	var lines []report
	for text := range strings.Lines(p.Said("stdout")) {
		var l report
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		lines = append(lines, l)
	}
	if len(lines) != 2 || lines[0].Result != "done" || lines[1].Result != "done" || lines[0].BytesFetched == 0 {
		t.Fatalf("reports: %+v", lines)
	}
	for i, want := range []string{"exists", "pulled", "pulled"} {
		if im := lines[1].Images[i]; im.Reference != second[i] || im.Status != want || im.Digest == "" {
			t.Errorf("image %d: %+v, want %s %s", i, im, second[i], want)
		}
	}
}

// report is a line of --report.
type report struct {
	Started  time.Time `json:"started"`
	Result   string    `json:"result"`
	ExitCode int       `json:"exitCode"`
	Error    string    `json:"error"`
	kit.Summary
}
