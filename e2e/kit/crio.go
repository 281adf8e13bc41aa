//go:build e2e

package kit

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/engines"
)

// crioFolder returns the folder with the programs of CRI-O. They are built once.
var crioFolder = sync.OnceValues(func() (string, error) {
	return engines.Crio(context.Background(), filepath.Dir(Programs.tool))
})

// StartCrio starts a CRI-O that has its images in the store at root, waits until it answers, and
// stops it at the end of the test. pause is the image of its pods.
func StartCrio(t *testing.T, root, runRoot, pause string) (c CRI, pid int) {
	t.Helper()
	folder, err := crioFolder()
	if err != nil {
		t.Fatal(err)
	}
	dir := ShortTempDir(t)
	cmd, sock, err := engines.CrioCommand(folder, dir, root, runRoot, pause)
	if err != nil {
		t.Fatal(err)
	}
	out := &LogBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	t.Cleanup(func() {
		UnmountBelow(t, dir)
		if t.Failed() {
			t.Logf("CRI-O:\n%s", out.Tail())
		}
	})
	StartServer(t, cmd, 15*time.Second)
	c = CRI{Sock: sock}
	if !Eventually(time.Minute, func() bool { return c.crictl(t, "images").Run() == nil }) {
		t.Fatalf("CRI-O does not answer\n%s", out.Tail())
	}
	return c, cmd.Process.Pid
}
