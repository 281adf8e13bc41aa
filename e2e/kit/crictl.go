//go:build e2e

package kit

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/engines"
)

// PauseImage is the name of the image that every pod needs. No registry has it.
const PauseImage = "registry.invalid/pause:1"

// forPods is what pods need in the configuration of containerd where the tests run: no
// network plugin, no AppArmor, and no right to lower an oom_score_adj.
const forPods = `[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "` + PauseImage + `"
disable_apparmor = true
restrict_oom_score_adj = true
`

// crictl returns the path of the program, which is built once.
var crictl = sync.OnceValues(func() (string, error) { return engines.Crictl(context.Background()) })

// CRI is an engine that serves a kubelet at a socket.
type CRI struct{ Sock string }

// Crictl runs crictl, which has to succeed, and returns its stdout.
func (c CRI) Crictl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := c.crictl(t, args...)
	return Run(t, cmd.Path, cmd.Args[1:]...)
}

func (c CRI) crictl(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, err := crictl()
	if err != nil {
		t.Fatal(err)
	}
	at := "unix://" + c.Sock
	return exec.Command(program, append([]string{"--runtime-endpoint", at, "--image-endpoint", at, "--timeout", "60s"}, args...)...)
}

// CRIImage is what crictl prints of an image.
type CRIImage struct {
	ID          string   `json:"id"`
	RepoTags    []string `json:"repoTags"`
	RepoDigests []string `json:"repoDigests"`
}

// Image returns what a kubelet sees of an image, the zero value if it does not see it.
func (c CRI) Image(t *testing.T, ref string) (im CRIImage) {
	t.Helper()
	var list struct{ Images []CRIImage }
	if err := json.Unmarshal([]byte(c.Crictl(t, "images", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	for _, im := range list.Images {
		if slices.Contains(im.RepoTags, ref) {
			return im
		}
	}
	return im
}

// InPod runs an image in a pod on the network of the host, and returns what it prints. No
// image is pulled.
func (c CRI) InPod(t *testing.T, image string) string {
	t.Helper()
	p := c.StartPod(t, map[string]any{"image": map[string]any{"image": image}})
	defer p.Remove(t)
	var said string
	if !Eventually(time.Minute, func() bool { said = p.Said("stdout"); return said != "" }) {
		t.Errorf("%s prints nothing: %s", image, c.Crictl(t, "inspect", p.container))
	}
	return strings.TrimSpace(said)
}

// Pod is a pod on the network of the host, with one container.
type Pod struct {
	c                  CRI
	sandbox, container string
	log                string
}

// StartPod starts a pod with one container. config is that of the container as CRI has it,
// without its name and its log. No image is pulled.
func (c CRI) StartPod(t *testing.T, config map[string]any) *Pod {
	t.Helper()
	dir := t.TempDir()
	security := map[string]any{"namespace_options": map[string]any{"network": 2, "pid": 1}, "seccomp": map[string]any{"profile_type": 1}}
	write := func(name string, config map[string]any) string {
		config["metadata"] = map[string]any{"name": name, "namespace": "default", "uid": filepath.Base(filepath.Dir(dir)) + filepath.Base(dir)}
		if config["linux"] == nil {
			config["linux"] = map[string]any{"security_context": security}
		}
		text, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name+".json")
		WriteFile(t, file, string(text))
		return file
	}
	pod := write("pod", map[string]any{"log_directory": dir})
	config = maps.Clone(config)
	config["log_path"] = "log"
	container := write("container", config)
	p := &Pod{c: c, log: filepath.Join(dir, "log")}
	p.sandbox = c.Crictl(t, "runp", pod)
	p.container = c.Crictl(t, "create", p.sandbox, container, pod)
	c.Crictl(t, "start", p.container)
	return p
}

// Said returns what the container has printed on stdout or stderr.
func (p *Pod) Said(stream string) string {
	text, _ := os.ReadFile(p.log) // it is not there at the beginning
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		// The time, the stream, F for a whole line or P for a part of one, and the text.
		fields := strings.SplitN(line, " ", 4)
		if len(fields) < 4 || fields[1] != stream {
			continue
		}
		if fields[2] == "P" {
			fields[3] = strings.TrimSuffix(fields[3], "\n")
		}
		b.WriteString(fields[3])
	}
	return b.String()
}

// Stop ends the container as the kubelet does, and returns its exit code.
func (p *Pod) Stop(t *testing.T) (code int) {
	t.Helper()
	p.c.Crictl(t, "stop", "--timeout", "30", p.container)
	var got struct {
		Status struct {
			ExitCode int `json:"exitCode"`
		} `json:"status"`
	}
	if err := json.Unmarshal([]byte(p.c.Crictl(t, "inspect", p.container)), &got); err != nil {
		t.Fatal(err)
	}
	return got.Status.ExitCode
}

// Remove removes the pod. containerd 1.6 may fail to stop a container that ends at that moment.
// It is asked again, as a kubelet does.
func (p *Pod) Remove(t *testing.T) {
	t.Helper()
	var out []byte
	if !Eventually(30*time.Second, func() (ok bool) {
		var err error
		out, err = p.c.crictl(t, "stopp", p.sandbox).CombinedOutput()
		return err == nil
	}) {
		t.Errorf("the pod is not stopped: %s", out)
	}
	p.c.Crictl(t, "rmp", "--force", p.sandbox)
}
