package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fastpull/fastpull/internal/need"
)

// TestNamed finds this process, and a child by a name of its own.
func TestNamed(t *testing.T) {
	own := fmt.Sprintf("/proc/%d", os.Getpid())
	if name := comm(own); name == "" || !slices.Contains(Named(name), own) {
		t.Errorf("this process, %q, is not in %q", name, Named(name))
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "named-in-a-test") // 15 bytes
	if err := os.Symlink(need.Program(t, "sleep"), program); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	child := fmt.Sprintf("/proc/%d", cmd.Process.Pid)
	if got := Named("named-in-a-test"); !slices.Equal(got, []string{child}) {
		t.Errorf("%q, want %s", got, child)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if got := Named("named-in-a-test"); len(got) > 0 {
		t.Errorf("a process that has ended: %q", got)
	}
	if name := Name(os.Getpid()); name == "" || name != comm(own) {
		t.Errorf("this process is called %q, want %q", name, comm(own))
	}
	if comm("/proc/none") != "" {
		t.Error("no process has a name")
	}
}
