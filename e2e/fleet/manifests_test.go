//go:build e2e

package fleet

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fastpull/fastpull/e2e/engines"
	"github.com/fastpull/fastpull/e2e/kit"
)

// manifests is the folder with the kustomizations.
const manifests = "../../deploy/kubernetes"

// kubernetes returns the path of the program that builds them. It is built once.
var kubernetes = sync.OnceValues(func() (string, error) { return engines.Kubernetes(context.Background()) })

// decoded runs the program, and returns the list that it prints.
func decoded[T any](t *testing.T, args ...string) (list []T) {
	t.Helper()
	program, err := kubernetes()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(kit.Run(t, program, args...)), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// object is what is of interest of an object of Kubernetes.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Data     map[string]string
	Spec     struct {
		Selector struct{ MatchLabels map[string]string }
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     json.RawMessage
		}
	}
}

// build returns the objects of an overlay of the repository.
func build(t *testing.T, overlay string) (daemonSet object, pod podSpec, images object) {
	t.Helper()
	return built(t, filepath.Join(manifests, overlay))
}

// built returns the objects of a kustomization. Each was decoded strictly.
func built(t *testing.T, overlay string) (daemonSet object, pod podSpec, images object) {
	t.Helper()
	kinds := make(map[string]object)
	for _, o := range decoded[object](t, "build", overlay) {
		if o.Kind != "Namespace" && o.Metadata.Namespace != "fastpull" {
			t.Errorf("%s: %s %s is in the namespace %q", overlay, o.Kind, o.Metadata.Name, o.Metadata.Namespace)
		}
		kinds[o.Kind] = o
	}
	if len(kinds) != 3 {
		t.Fatalf("%s has %d kinds", overlay, len(kinds))
	}
	daemonSet, images = kinds["DaemonSet"], kinds["ConfigMap"]
	d := json.NewDecoder(strings.NewReader(string(daemonSet.Spec.Template.Spec)))
	d.DisallowUnknownFields() // or a test would leave something out of the pod
	if err := d.Decode(&pod); err != nil {
		t.Fatalf("%s: %v", overlay, err)
	}
	return daemonSet, pod, images
}

// TestManifests builds all overlays, and compares what differs between them.
func TestManifests(t *testing.T) {
	t.Parallel()
	for overlay, want := range map[string]struct{ socket, root, mirrors string }{
		"base":             {"/run/containerd/containerd.sock", "/var/lib/containerd", "/etc/containerd/certs.d"},
		"overlays/kubeadm": {"/run/containerd/containerd.sock", "/var/lib/containerd", "/etc/containerd/certs.d"},
		"overlays/k3s":     {"/run/k3s/containerd/containerd.sock", "/var/lib/rancher/k3s/agent/containerd", "/var/lib/rancher/k3s/agent/etc/containerd/certs.d"},
		"overlays/rke2":    {"/run/k3s/containerd/containerd.sock", "/var/lib/rancher/rke2/agent/containerd", "/var/lib/rancher/rke2/agent/etc/containerd/certs.d"},
	} {
		set, pod, images := build(t, overlay)
		for name, value := range set.Spec.Selector.MatchLabels {
			if set.Spec.Template.Metadata.Labels[name] != value {
				t.Errorf("%s: the selector does not fit the pods", overlay)
			}
		}
		if len(pod.Containers) != 1 || len(pod.Containers[0].VolumeMounts) != len(pod.Volumes) {
			t.Fatalf("%s: %d mounts of %d volumes", overlay, len(pod.Containers[0].VolumeMounts), len(pod.Volumes))
		}
		paths := make(map[string]string)
		for _, v := range pod.Volumes {
			switch {
			case v.HostPath != nil:
				paths[v.Name] = v.HostPath.Path
			case v.ConfigMap != nil && v.ConfigMap.Name != images.Metadata.Name:
				t.Errorf("%s: the volume has %s, and the list is %s", overlay, v.ConfigMap.Name, images.Metadata.Name)
			}
		}
		if paths["socket"] != want.socket || paths["root"] != want.root || paths["mirrors"] != want.mirrors || len(paths) != 3 {
			t.Errorf("%s: paths of the host: %q, want %q", overlay, paths, want)
		}
		for _, m := range pod.Containers[0].VolumeMounts {
			if m.Name == "root" && m.MountPath != want.root {
				t.Errorf("%s: containerd's root is at %s in the container", overlay, m.MountPath)
			}
			if writes := m.Name == "root" || m.Name == "socket"; m.ReadOnly == writes {
				t.Errorf("%s: %s is read-only: %v", overlay, m.MountPath, m.ReadOnly)
			}
		}
		if _, ok := images.Data["images.txt"]; !ok || !strings.HasPrefix(images.Metadata.Name, "fastpull-images-") {
			t.Errorf("%s: the list %s: %q", overlay, images.Metadata.Name, images.Data)
		}
	}
}

// TestMetricsText has Prometheus's own parser read what /metrics answers.
func TestMetricsText(t *testing.T) {
	t.Parallel()
	program, err := kubernetes()
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(kit.Run(t, program, "metrics", "../../fleet/testdata/metrics.txt"))
	for _, want := range []string{"fastpull_ready", "fastpull_image_present", "fastpull_runs_total", "fastpull_last_done_timestamp_seconds"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among %q", want, names)
		}
	}
}

// TestDocumentedOverlay builds the overlay of docs/fleets.md, with two lists: each has a name of
// its own, and the pods have that.
func TestDocumentedOverlay(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/fleets.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(page), "    # kustomization.yaml\n")
	text, _, end := strings.Cut(text, "\n\n")
	if !ok || !end {
		t.Fatal("docs/fleets.md has no kustomization")
	}
	dir := t.TempDir()
	here, err := filepath.Abs(manifests)
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(dir, here) // kustomize takes no absolute ones
	if err != nil {
		t.Fatal(err)
	}
	const remote = "github.com/fastpull/fastpull/deploy/kubernetes/"
	if !strings.Contains(text, remote) {
		t.Fatalf("the overlay has another base:\n%s", text)
	}
	text = strings.ReplaceAll(strings.ReplaceAll("\n"+text, "\n    ", "\n"), remote, relative+"/")
	kit.WriteFile(t, filepath.Join(dir, "kustomization.yaml"), text)
	names := make(map[string]bool)
	for _, list := range []string{"host:5000/a:1\n", "host:5000/a:1\nhost:5000/b:1\n"} {
		kit.WriteFile(t, filepath.Join(dir, "images.txt"), list)
		_, pod, images := built(t, dir)
		if images.Data["images.txt"] != list || pod.Containers[0].Image != "registry.example.com/fastpull/fastpull:v1.0.0" {
			t.Errorf("the list %q, and the image %s", images.Data, pod.Containers[0].Image)
		}
		for _, v := range pod.Volumes {
			if v.ConfigMap != nil && v.ConfigMap.Name != images.Metadata.Name {
				t.Errorf("the volume has %s, and the list is %s", v.ConfigMap.Name, images.Metadata.Name)
			}
		}
		names[images.Metadata.Name] = true
	}
	if len(names) != 2 {
		t.Errorf("names of the lists: %v", names)
	}
}
