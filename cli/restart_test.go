package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/overlay"
)

// startEngine serves the API of an Engine. Its dockerd is a process that sleeps, and has the
// data-root open.
func startEngine(t *testing.T) (dockerd *exec.Cmd) {
	t.Helper()
	root := t.TempDir()
	s, err := overlay.Open(t.Context(), root, overlay.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	program, db := filepath.Join(t.TempDir(), "dockerd"), filepath.Join(root, "volumes/metadata.db")
	sleep, err := os.ReadFile(need.Program(t, "sleep"))
	if err := errors.Join(err, os.WriteFile(program, sleep, 0o755), os.Mkdir(filepath.Dir(db), 0o700), os.WriteFile(db, nil, 0o600),
		os.WriteFile(filepath.Join(root, "image/overlay2/x"), nil, 0o600), s.Close()); err != nil { // an unused store would be gone
		t.Fatal(err)
	}
	f, err := os.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dockerd = exec.Command(program, "600")
	dockerd.ExtraFiles = []*os.File{f}
	if err := dockerd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dockerd.Process.Kill(); _ = dockerd.Wait() })
	t.Setenv("DOCKER_HOST", testkit.ServeSocket(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch _, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v"), "/"); path {
		case "_ping":
			w.Header().Set("Api-Version", "1.41")
		case "info":
			_ = json.NewEncoder(w).Encode(system.Info{ServerVersion: "20.10.24", Driver: "overlay2", DockerRootDir: root})
		case "containers/json":
			_ = json.NewEncoder(w).Encode([]container.Summary{})
		default:
			http.NotFound(w, r)
		}
	})))
	return dockerd
}

// TestInterruptedRestart interrupts a pull while the Engine is being stopped, which cannot be
// started again then. The user is told.
func TestInterruptedRestart(t *testing.T) {
	host := startRegistry(t)
	for _, mode := range []string{"plain", "json", "quiet"} {
		t.Run(mode, func(t *testing.T) {
			dockerd := startEngine(t)
			dir := t.TempDir()
			text := fmt.Sprintf("#!/bin/sh\n[ $1 = stop ] || exit 1\necho > %[1]s/stops\nread line < %[1]s/goes-on\nkill -9 %[2]d\n", dir, dockerd.Process.Pid)
			script := filepath.Join(dir, "service")
			if err := errors.Join(os.WriteFile(script, []byte(text), 0o755), unix.Mkfifo(dir+"/stops", 0o600), unix.Mkfifo(dir+"/goes-on", 0o600)); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				_, _ = os.ReadFile(dir + "/stops")
				cancel()
				_ = os.WriteFile(dir+"/goes-on", []byte("\n"), 0)
			}()
			stderr, err := os.Create(filepath.Join(dir, "stderr")) // the command has it, too
			if err != nil {
				t.Fatal(err)
			}
			defer stderr.Close()
			args := []string{"--progress=" + mode, "--restart-engine", "--restart-command", script, host + "/base:1"}
			if code := Main(ctx, args, Streams{Out: io.Discard, Err: stderr}); code != 130 {
				t.Errorf("exit code %d", code)
			}
			said, err := os.ReadFile(stderr.Name())
			if err != nil {
				t.Fatal(err)
			}
			errs := string(said)
			if mode == "json" {
				for line := range strings.Lines(errs) {
					if !json.Valid([]byte(line)) {
						t.Errorf("not JSON: %s", line)
					}
				}
			}
			told, hint, last := strings.Index(errs, "start the Engine again"), strings.Index(errs, "it is stopped: start it"), strings.LastIndex(errs, "interrupted")
			if told < 0 || hint < told || last < hint {
				t.Errorf("it says\n%s", errs)
			}
		})
	}
}
