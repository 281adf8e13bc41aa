package containerd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	introspectionapi "github.com/containerd/containerd/api/services/introspection/v1"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/internal/checkup"
	"github.com/fastpull/fastpull/internal/fakecontainerd"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/internal/testkit"
)

// TestCheck says of a containerd how images would come into it, and changes nothing there.
func TestCheck(t *testing.T) {
	for _, name := range []string{"CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE", "CONTAINERD_SNAPSHOTTER"} {
		t.Setenv(name, "")
	}
	s := fakecontainerd.Start(t, testkit.SocketDir(t))
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "snapshots"), 0o700); err != nil {
		t.Fatal(err)
	}
	overlay := &introspectionapi.Plugin{Type: "io.containerd.snapshotter.v1", ID: "overlayfs"}
	s.Plugins = []*introspectionapi.Plugin{overlay,
		{Type: "io.containerd.snapshotter.v1", ID: "native", Exports: map[string]string{"root": "/data/native"}},
		{Type: "io.containerd.grpc.v1", ID: "cri"}}
	root := &destination.Machine{Rights: privilege.Process{Level: privilege.Full}}
	for _, tc := range []struct {
		name, root, namespace string
		m                     *destination.Machine
		level                 checkup.Level
		says                  []string
	}{
		{"at hand", dir, "", root, checkup.OK, []string{"namespace k8s.io", "a kubelet is served", "snapshotter overlayfs in " + dir, "extracted there directly"}},
		{"not at hand", dir + "/none", "", root, checkup.OK, []string{"not at hand", "plain tars"}},
		{"without rights", dir, "", &destination.Machine{Rights: privilege.Process{Level: privilege.User}}, checkup.OK, []string{"not at hand", "plain tars"}},
		{"another snapshotter", dir, "labelled", root, checkup.OK, []string{"snapshotter native in /data/native", "one after the other"}},
	} {
		t.Setenv("CONTAINERD_NAMESPACE", tc.namespace)
		overlay.Exports = map[string]string{"root": tc.root}
		list := Check(t.Context(), tc.m, s.Address)
		if len(list) != 1 || list[0].Level != tc.level {
			t.Fatalf("%s: %+v", tc.name, list)
		}
		for _, words := range tc.says {
			if !strings.Contains(list[0].Text, words) {
				t.Errorf("%s: does not say %q: %s", tc.name, words, list[0].Text)
			}
		}
	}
	t.Setenv("CONTAINERD_SNAPSHOTTER", "zfs")
	if f := Check(t.Context(), root, s.Address)[0]; f.Level != checkup.Problem || !strings.Contains(f.Text, "native, overlayfs") {
		t.Errorf("a snapshotter that is not there: %+v", f)
	}
	if f := Check(t.Context(), root, s.Address+"-none")[0]; f.Level != checkup.Problem || !strings.Contains(f.Text, "no containerd answers") {
		t.Errorf("a socket that is not there: %+v", f)
	}
	if leased := s.Leased(); len(leased) > 0 {
		t.Errorf("leases were used: %q", leased)
	}
}

// TestRoots finds where containerd's file system is by the path of its socket.
func TestRoots(t *testing.T) {
	for socket, want := range map[string][]string{
		"/run/containerd/containerd.sock":                 {""},
		"/run/user/1/other.sock":                          {""},
		"/host/run/containerd/containerd.sock":            {"", "/host"},
		"/host/run/k3s/containerd/containerd.sock":        {"", "/host"},
		"/proc/12/root/run/containerd/containerd.sock":    {"", "/proc/12/root"},
		"/proc/12/root/somewhere/else.sock":               {"", "/proc/12/root"},
		"/root/run/docker/containerd/containerd.sock":     {"", "/root"},
		"/n/var/snap/microk8s/common/run/containerd.sock": {"", "/n"},
	} {
		if got := roots(socket); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", socket, got, want)
		}
	}
}

// TestRootless reads the process of a rootless containerd, for users other than root.
func TestRootless(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if got := rootless(1000); got != nil {
		t.Errorf("without a file: %q", got)
	}
	if err := os.Mkdir(filepath.Join(dir, "containerd-rootless"), 0o700); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]string{"42\n": {"/proc/42/root/run/containerd/containerd.sock"}, "x/../1": nil, "": nil} {
		if err := os.WriteFile(filepath.Join(dir, "containerd-rootless/child_pid"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := rootless(1000); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
		if got := rootless(0); got != nil {
			t.Errorf("root: %q", got)
		}
	}
}
