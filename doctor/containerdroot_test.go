package doctor

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/internal/testkit"
)

// TestContainerdDisks finds out where a containerd keeps images by what it has open.
func TestContainerdDisks(t *testing.T) {
	socket := filepath.Join(testkit.SocketDir(t), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	facts := daemon.Facts{Containerd: socket, Driver: "overlayfs"}
	for _, tc := range []struct {
		open []string
		want []string // folders, or what the error says
	}{
		{[]string{"/data/c/" + metadataFile}, []string{"/data/c"}},
		{[]string{"/data/c/" + metadataFile, "/data/c/io.containerd.snapshotter.v1.overlayfs/metadata.db"}, []string{"/data/c"}},
		{[]string{"/data/c/" + metadataFile, "/fast/snapshots/metadata.db"}, []string{"/data/c", "/fast/snapshots"}},
		{[]string{"/fast/native/metadata.db", "/data/c/" + metadataFile, "/data/c/x.overlayfs/metadata.db"}, []string{"/data/c"}},
		{[]string{"/data/other.db", "socket:[1]"}, []string{"does not have"}},
		{nil, []string{"which files"}},
	} {
		p := newFakeProc(t)
		for i, name := range tc.open {
			p.link(fmt.Sprintf("%d/fd/%d", os.Getpid(), i), name)
		}
		p.link(fmt.Sprintf("%d/root", os.Getpid()), "/")
		p.link(fmt.Sprintf("%d/ns/mnt", os.Getpid()), readlink(t, "/proc/self/ns/mnt"))
		e := &exam{Options: Options{proc: string(p.procfs)}, report: &Report{}}
		list, err := e.containerdDisks(t.Context(), facts)
		var got []string
		for _, d := range list {
			got = append(got, d.dir)
			if !strings.Contains(d.what, d.dir) {
				t.Errorf("%q does not name %s", d.what, d.dir)
			}
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if len(got) != len(tc.want) || !strings.Contains(strings.Join(got, " "), strings.Join(tc.want, " ")) {
			t.Errorf("%q: %q, want %q", tc.open, got, tc.want)
		}
	}
	facts.Containerd = socket + "-none"
	e := &exam{report: &Report{}}
	if _, err := e.containerdDisks(t.Context(), facts); err == nil || !strings.Contains(err.Error(), socket) {
		t.Errorf("nobody listens: %v", err)
	}
}
