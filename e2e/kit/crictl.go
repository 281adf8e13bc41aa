//go:build e2e

package kit

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
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

// Crictl runs crictl, which has to succeed, and returns its stdout.
func (c *Containerd) Crictl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := c.crictl(t, args...)
	return Run(t, cmd.Path, cmd.Args[1:]...)
}

func (c *Containerd) crictl(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, err := crictl()
	if err != nil {
		t.Fatal(err)
	}
	at := "unix://" + c.Sock
	return exec.Command(program, append([]string{"--runtime-endpoint", at, "--image-endpoint", at, "--timeout", "60s"}, args...)...)
}

// InPod runs an image in a pod on the network of the host, and returns what it prints. No
// image is pulled.
func (c *Containerd) InPod(t *testing.T, image string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, config map[string]any) string {
		config["metadata"] = map[string]any{"name": name, "namespace": "default", "uid": filepath.Base(filepath.Dir(dir)) + filepath.Base(dir)}
		config["linux"] = map[string]any{"security_context": map[string]any{
			"namespace_options": map[string]any{"network": 2}, "seccomp": map[string]any{"profile_type": 1},
		}}
		text, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name+".json")
		WriteFile(t, file, string(text))
		return file
	}
	pod := write("pod", map[string]any{"log_directory": dir})
	container := write("container", map[string]any{"image": map[string]any{"image": image}, "log_path": "log"})
	sandbox := c.Crictl(t, "runp", pod)
	defer func() {
		c.Crictl(t, "stopp", sandbox)
		c.Crictl(t, "rmp", "--force", sandbox)
	}()
	id := c.Crictl(t, "create", sandbox, container, pod)
	c.Crictl(t, "start", id)
	var said string
	if !Eventually(time.Minute, func() bool {
		text, _ := os.ReadFile(filepath.Join(dir, "log"))
		_, line, ok := strings.Cut(string(text), " stdout F ")
		said = strings.TrimSpace(line)
		return ok
	}) {
		t.Errorf("%s prints nothing: %s", image, c.Crictl(t, "inspect", id))
	}
	return said
}
