//go:build e2e

package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/fastpull/fastpull/internal/apart"
)

// The programs that TestMain has built.
var programs struct {
	fastpull string
	tool     string // the user land of the sample images
	unpigz   string // the one that hangs
}

func TestMain(m *testing.M) {
	// Tests that are parallel wait more than they work.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(apart.Main(func() int { return testMain(m) }))
}

func testMain(m *testing.M) int {
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

func buildPrograms(dir string) error {
	programs.tool = filepath.Join(dir, "tool")
	programs.unpigz = filepath.Join(dir, "unpigz")
	programs.fastpull = filepath.Join(dir, "fastpull")
	if err := goBuild(programs.tool, "./testdata/tool", "CGO_ENABLED=0"); err != nil {
		return err
	}
	if err := goBuild(programs.unpigz, "./testdata/unpigz", "CGO_ENABLED=0"); err != nil {
		return err
	}
	if given := os.Getenv("FASTPULL_BIN"); given != "" {
		programs.fastpull = given
		return nil
	}
	if os.Getenv("FASTPULL_RACE") == "1" {
		return goBuild(programs.fastpull, "..", "CGO_ENABLED=1", "-race")
	}
	return goBuild(programs.fastpull, "..", "CGO_ENABLED=0")
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
