//go:build e2e

package kit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/fastpull/fastpull/internal/apart"
)

// Programs are what Main has built.
var Programs struct {
	Fastpull string
	before   []string // goes before Fastpull, see OldKernel
	tool     string   // the user land of the sample images
	unpigz   string   // the one that hangs
}

// Main runs the tests of a package, apart from what is on the machine, with the programs
// that they need. A TestMain calls it, and does nothing else. It does not return.
func Main(m *testing.M) {
	os.Exit(apart.Main(func() int { return runTests(m) }))
}

func runTests(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e: needs root, to start dockerd and to make device nodes")
		return 1
	}
	for _, name := range []string{"dockerd", "docker-registry", "docker"} {
		if _, err := exec.LookPath(name); err != nil {
			fmt.Fprintf(os.Stderr, "e2e: %v; apt-get install docker.io docker-registry\n", err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "fp")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Not only root is to run what is built there.
	if err := errors.Join(os.Chmod(dir, 0o755), buildPrograms(dir)); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

const module = "github.com/fastpull/fastpull"

func buildPrograms(dir string) error {
	Programs.tool = filepath.Join(dir, "tool")
	Programs.unpigz = filepath.Join(dir, "unpigz")
	Programs.Fastpull = filepath.Join(dir, "fastpull")
	if err := goBuild(Programs.tool, module+"/e2e/kit/testdata/tool", "CGO_ENABLED=0"); err != nil {
		return err
	}
	if err := goBuild(Programs.unpigz, module+"/e2e/kit/testdata/unpigz", "CGO_ENABLED=0"); err != nil {
		return err
	}
	if os.Getenv("FASTPULL_OLD_KERNEL") == "1" {
		program, err := oldKernel()
		if err != nil {
			return err
		}
		Programs.before = []string{program}
	}
	Programs.before = append(Programs.before, strings.Fields(os.Getenv("FASTPULL_EMULATOR"))...)
	if given := os.Getenv("FASTPULL_BIN"); given != "" {
		Programs.Fastpull = given
		return nil
	}
	if os.Getenv("FASTPULL_RACE") == "1" {
		return goBuild(Programs.Fastpull, module, "CGO_ENABLED=1", "-race")
	}
	return goBuild(Programs.Fastpull, module, "CGO_ENABLED=0")
}

// oldKernel builds the program of [OldKernel] once, and returns its path.
var oldKernel = sync.OnceValues(func() (string, error) {
	program := filepath.Join(filepath.Dir(Programs.tool), "oldkernel")
	return program, goBuild(program, module+"/e2e/kit/testdata/oldkernel", "CGO_ENABLED=0")
})

// OldKernel returns the path of a program that goes before another one ([User.By]). What it
// runs finds no system call that is newer than Linux 4.19.
//
// FASTPULL_OLD_KERNEL=1 puts it before fastpull in all tests. FASTPULL_EMULATOR names an
// emulator for the program of FASTPULL_BIN, as qemu-user is.
func OldKernel(t *testing.T) string {
	t.Helper()
	program, err := oldKernel()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// ForThisMachine returns the arguments by which fastpull takes images of the machine from an index:
// none, unless an emulator runs a fastpull for another one.
func ForThisMachine() []string {
	if os.Getenv("FASTPULL_EMULATOR") == "" {
		return nil
	}
	return []string{"--platform", "linux/" + runtime.GOARCH}
}

func goBuild(out, pkg, env string, flags ...string) error {
	args := append([]string{"build", "-o", out}, flags...)
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Env = append(os.Environ(), env)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	return nil
}
