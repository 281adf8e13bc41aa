//go:build e2e && kubelet

package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/engines"
	"github.com/fastpull/fastpull/e2e/kit"
)

// kubelet is one that no API server tells anything: its pods are those of a directory.
type kubelet struct {
	pods string // the directory
	logs string // of the pods' containers
	port string // where it tells of the pods
	out  *kit.LogBuffer
}

// tunables are settings of the kernel that a kubelet changes.
var tunables = []string{"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"}

// startKubelet starts a kubelet on a containerd. Its places outside of a temporary directory
// are in a mount namespace of its own, and it leaves the machine's settings as they were.
func startKubelet(t *testing.T, c *kit.Containerd) *kubelet {
	t.Helper()
	program, err := engines.Kubelet(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tunables {
		file := filepath.Join("/proc/sys", name)
		was, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.WriteFile(file, was, 0); err != nil {
				t.Error(err)
			}
		})
	}
	dir := kit.ShortTempDir(t)
	k := &kubelet{pods: filepath.Join(dir, "pods"), logs: filepath.Join(dir, "logs"), port: portOf(t), out: &kit.LogBuffer{}}
	for _, d := range []string{k.pods, k.logs} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	readOnly, _ := strconv.Atoi(k.port)
	port, _ := strconv.Atoi(portOf(t))
	text, err := json.Marshal(map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"staticPodPath": k.pods, "podLogsDir": k.logs, "volumePluginDir": filepath.Join(dir, "plugins"),
		"containerRuntimeEndpoint": "unix://" + c.Sock,
		"address":                  "127.0.0.1", "port": port, "readOnlyPort": readOnly, "healthzPort": 0,
		"authentication": map[string]any{"anonymous": map[string]any{"enabled": true}, "webhook": map[string]any{"enabled": false}},
		"authorization":  map[string]any{"mode": "AlwaysAllow"},
		// The machine is not the kubelet's: it makes no groups of processes for pods, whatever
		// version they are of, removes no images, and leaves the packet filter alone.
		"cgroupDriver": "cgroupfs", "cgroupsPerQOS": false, "enforceNodeAllocatable": []string{}, "failCgroupV1": false,
		"failSwapOn": false, "oomScoreAdj": 0, "makeIPTablesUtilChains": false,
		"evictionHard":                map[string]string{"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
		"imageGCHighThresholdPercent": 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "kubelet.json")
	kit.WriteFile(t, config, string(text))
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs tmpfs /var && exec "$@"`, "sh",
		program, "--config", config, "--root-dir", filepath.Join(dir, "root"), "--cert-dir", filepath.Join(dir, "certs"), "--hostname-override", "127.0.0.1")
	cmd.Stdout, cmd.Stderr = k.out, k.out
	t.Cleanup(func() {
		kit.UnmountBelow(t, dir)
		if t.Failed() {
			t.Logf("kubelet:\n%s", k.out.Tail())
		}
	})
	kit.StartServer(t, cmd, 15*time.Second)
	t.Cleanup(func() { k.stopPods(t) })
	if !kit.Eventually(time.Minute, func() bool { _, err := k.list(); return err == nil }) {
		t.Fatalf("the kubelet does not answer\n%s", k.out.Tail())
	}
	return k
}

// portOf returns a port that is free.
func portOf(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(kit.FreePort(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// podStatus is what a kubelet tells of a pod.
type podStatus struct {
	Metadata struct{ Name string }
	Status   struct {
		Phase             string
		Conditions        []struct{ Type, Status string }
		ContainerStatuses []struct {
			State struct {
				Waiting struct{ Reason, Message string }
			}
		}
	}
}

// is reports whether a condition of the pod is true.
func (p podStatus) is(condition string) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == condition {
			return c.Status == "True"
		}
	}
	return false
}

// list returns the pods that the kubelet knows, by the names in their manifests.
func (k *kubelet) list() (map[string]podStatus, error) {
	status, body := answer("http://127.0.0.1:" + k.port + "/pods")
	var answered struct{ Items []podStatus }
	if err := json.Unmarshal([]byte(body), &answered); err != nil || status != 200 {
		return nil, errors.Join(fmt.Errorf("status %d", status), err)
	}
	pods := make(map[string]podStatus)
	for _, p := range answered.Items {
		pods[strings.TrimSuffix(p.Metadata.Name, "-127.0.0.1")] = p
	}
	return pods, nil
}

// add has the kubelet run a pod.
func (k *kubelet) add(t *testing.T, name string, spec map[string]any) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": "fastpull"}, "spec": spec})
	if err != nil {
		t.Fatal(err)
	}
	kit.WriteFile(t, filepath.Join(k.pods, name+".json"), string(text))
}

// wait waits until a pod is as it is to be.
func (k *kubelet) wait(t *testing.T, name string, right func(podStatus) bool) {
	t.Helper()
	var pods map[string]podStatus
	if !kit.Eventually(2*time.Minute, func() bool {
		pods, _ = k.list()
		p, ok := pods[name]
		return ok && right(p)
	}) {
		t.Fatalf("pod %s: %+v\n%s", name, pods[name], k.said(t, name))
	}
}

// said returns what the containers of a pod have printed, as the kubelet keeps it.
func (k *kubelet) said(t *testing.T, name string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(k.logs, "fastpull_"+name+"-*", "*", "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if _, after, ok := strings.Cut(line, " F "); ok {
				said.WriteString(after)
			}
		}
	}
	return said.String()
}

// stopPods has the kubelet end its pods.
func (k *kubelet) stopPods(t *testing.T) {
	t.Helper()
	for _, name := range kit.Names(t, k.pods) {
		if err := os.Remove(filepath.Join(k.pods, name)); err != nil {
			t.Error(err)
		}
	}
	if !kit.Eventually(time.Minute, func() bool { pods, err := k.list(); return err == nil && len(pods) == 0 }) {
		t.Error("the kubelet does not end its pods")
	}
}

// TestKubelet has a kubelet run the pod of the DaemonSet on containerd 2.4. It is ready when
// the images of its list are there. Another pod, which may not pull, then starts from one.
func TestKubelet(t *testing.T) {
	s := kit.NewShipment(t)
	s.Reg.Push(t, "pause:1", kit.MakeImage(t, kit.ImageSpec{Layers: s.Images[0].Layers[:1], Cmd: []string{"/bin/sleep", "6000"}}))
	own := ownImage(t, s.Reg)
	hosts := t.TempDir()
	kit.WriteFile(t, filepath.Join(hosts, "registry.invalid/hosts.toml"), fmt.Sprintf("[host.%q]\n", "http://"+s.Reg.Addr))
	const present, absent = "registry.invalid/one:1", "registry.invalid/three:3"
	broken := kit.PlantUnpigz(t, "unpigz", "igzip")
	if err := engines.FilteringRunc(t.Context(), broken.Dir+"/"); err != nil {
		t.Fatal(err)
	}
	c := kit.StartContainerd(t, kit.ContainerdOptions{Release: kit.Today, CRI: true, PathFirst: broken.Dir})
	c.Namespace = "k8s.io"
	kit.NewUser(t, "CONTAINERD_ADDRESS="+c.Sock).Fastpull(t, "--containerd", "--hosts-dir", hosts, kit.PauseImage).Expect(t, 0)
	k := startKubelet(t, c)

	list := t.TempDir()
	kit.WriteFile(t, filepath.Join(list, "images.txt"), present+"\nregistry.invalid/two/deep:2\n")
	k.add(t, "fastpull", k.translated(t, c, own, map[string]string{"root": c.Root, "socket": c.Sock, "mirrors": hosts, "images": list, "registries": t.TempDir()}))
	k.wait(t, "fastpull", func(p podStatus) bool { return p.is("Ready") })
	if said := k.said(t, "fastpull"); !strings.Contains(said, `"result":"done"`) {
		t.Errorf("the pod says:\n%s", said)
	}
	s.Reg.Traffic(t)
	for name, image := range map[string]string{"app": present, "none": absent} {
		k.add(t, name, map[string]any{
			"hostNetwork": true, "restartPolicy": "Never", "automountServiceAccountToken": false,
			"containers": []any{map[string]any{"name": "app", "image": image, "imagePullPolicy": "Never"}},
		})
	}
	k.wait(t, "app", func(p podStatus) bool { return p.Status.Phase == "Succeeded" })
	if said := k.said(t, "app"); said != kit.Words[0]+"\n" {
		t.Errorf("the pod says %q", said)
	}
	// Which shows that the kubelet pulls nothing.
	k.wait(t, "none", func(p podStatus) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Waiting.Reason == "ErrImageNeverPull"
	})
	if traffic := s.Reg.Traffic(t); len(traffic) > 0 {
		t.Errorf("the registry was asked: %v", traffic)
	}
	if pids := broken.Starts(t); len(pids) > 0 {
		t.Errorf("containerd has run a decompressor: %v", pids)
	}
}

// translated returns the pod of the manifest for a kubelet that knows no API server, so that
// its volumes are directories.
func (k *kubelet) translated(t *testing.T, c *kit.Containerd, image string, volumes map[string]string) map[string]any {
	t.Helper()
	set, _, _ := build(t, "base")
	var spec struct {
		Rest       map[string]any
		Containers []map[string]any `json:"containers"`
		Volumes    []map[string]any `json:"volumes"`
	}
	if err := errors.Join(json.Unmarshal(set.Spec.Template.Spec, &spec), json.Unmarshal(set.Spec.Template.Spec, &spec.Rest)); err != nil {
		t.Fatal(err)
	}
	for _, v := range spec.Volumes {
		name := v["name"].(string)
		host, ok := v["hostPath"].(map[string]any)
		if !ok {
			host = map[string]any{"type": "Directory"}
			delete(v, "configMap")
			delete(v, "secret")
			v["hostPath"] = host
		}
		host["path"] = volumes[name]
	}
	port := portOf(t)
	number, _ := strconv.Atoi(port)
	one := spec.Containers[0]
	one["image"] = image
	for i, arg := range one["args"].([]any) {
		if arg == "--listen=:9478" {
			one["args"].([]any)[i] = "--listen=:" + port
		}
	}
	one["ports"] = []any{map[string]any{"name": "metrics", "containerPort": number}}
	for _, m := range one["volumeMounts"].([]any) {
		if mount := m.(map[string]any); mount["name"] == "root" {
			mount["mountPath"] = c.Root
		}
	}
	spec.Rest["containers"], spec.Rest["volumes"] = spec.Containers, spec.Volumes
	return spec.Rest
}
