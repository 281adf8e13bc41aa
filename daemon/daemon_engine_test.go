//go:build e2e

package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	"github.com/fastpull/fastpull/internal/testkit"
)

// TestDockerd loads images into a dockerd of its own, which root must be able
// to start. The parts build on each other.
func TestDockerd(t *testing.T) {
	e := startDockerd(t)
	t.Logf("%s, %v, root %s", e, e.Platform(), e.Root())
	if p := e.Platform(); p.OS != runtime.GOOS || p.Architecture != runtime.GOARCH {
		t.Errorf("platform %v", p)
	}
	if has, err := e.Inventory(t.Context()); err != nil || len(has.Chains) != 0 {
		t.Fatalf("an empty Engine has %v, %v", has, err)
	}

	base, middle, top := layer(t, "base", 1<<20), layer(t, "middle", 5), layer(t, "top", 5)
	first := imageOf(t, "fastpull.test:5000/first:v1", base, middle)
	if has, err := e.HasImage(t.Context(), first.id); has || err != nil {
		t.Fatalf("HasImage before: %v, %v", has, err)
	}

	unpacked := make(map[string]int64)
	var sent int64
	archive := first.archive(t, base, middle)
	if err := e.Load(t.Context(), bytes.NewReader(archive), Watch{
		Sent:      func(n int64) { sent += n },
		Unpacking: func(l string, done, total int64) { unpacked[l] = done - total },
	}); err != nil {
		t.Fatal(err)
	}
	if sent != int64(len(archive)) {
		t.Errorf("sent %d of %d bytes", sent, len(archive))
	}
	for _, l := range [][]byte{base, middle} {
		id := digest.FromBytes(l).Encoded()[:12]
		if left, ok := unpacked[id]; !ok || left != 0 {
			t.Errorf("layer %s: told %v, %d bytes left", id, ok, left)
		}
	}

	if has, err := e.HasImage(t.Context(), first.id); !has || err != nil {
		t.Errorf("HasImage after: %v, %v", has, err)
	}
	if err := e.Verify(t.Context(), first.id, first.diffIDs); err != nil {
		t.Errorf("Verify: %v", err)
	}
	if id, err := e.TagOf(t.Context(), first.name); id != first.id || err != nil {
		t.Errorf("TagOf = %s, %v; want %s", id, err, first.id)
	}
	other := "fastpull.test:5000/other:v2"
	if id, err := e.TagOf(t.Context(), other); id != "" || err != nil {
		t.Errorf("TagOf a missing tag = %s, %v", id, err)
	}
	if err := e.Tag(t.Context(), first.id, other); err != nil {
		t.Error(err)
	}
	if id, err := e.TagOf(t.Context(), other); id != first.id || err != nil {
		t.Errorf("TagOf after Tag = %s, %v", id, err)
	}
	if err := e.Tag(t.Context(), digest.FromString("none"), other); err == nil {
		t.Error("tagged an image that is not there")
	}

	has, err := e.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	chains := has.Chains
	for n := range 2 {
		if c := identity.ChainID(first.diffIDs[:n+1]); !chains[c] {
			t.Errorf("chain of %d layers is not in %v", n+1, chains)
		}
	}
	if len(chains) != 2 {
		t.Errorf("%d chains, want 2", len(chains))
	}

	t.Run("layers left out", func(t *testing.T) {
		second := imageOf(t, "fastpull.test:5000/second:v1", base, middle, top)
		if err := e.Load(t.Context(), bytes.NewReader(second.archive(t, top)), Watch{}); err != nil {
			t.Fatal(err)
		}
		if has, err := e.HasImage(t.Context(), second.id); !has || err != nil {
			t.Errorf("HasImage: %v, %v", has, err)
		}
	})
	t.Run("unknown layer left out", func(t *testing.T) {
		third := imageOf(t, "fastpull.test:5000/third:v1", middle, top) // middle, but not on base
		err := e.Load(t.Context(), bytes.NewReader(third.archive(t, top)), Watch{})
		if !errors.Is(err, ErrLayerMissing) {
			t.Fatalf("got %v", err)
		}
		t.Logf("dockerd: %v", err)
	})
	t.Run("lies", func(t *testing.T) {
		liar := imageOf(t, "fastpull.test:5000/liar:v1", layer(t, "said", 5))
		said := liar.files[0]
		err := e.Load(t.Context(), bytes.NewReader(tarOf(t, liar.config(), liar.manifest(), file{said.name, layer(t, "given", 5)})), Watch{})
		if err == nil || !strings.Contains(err.Error(), "invalid diffID") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("no tar", func(t *testing.T) {
		err := e.Load(t.Context(), io.LimitReader(strings.NewReader(strings.Repeat("not a tar ", 1e6)), 5e6), Watch{})
		if err == nil {
			t.Fatal("loaded")
		}
		t.Logf("dockerd: %v", err)
	})
}

// file is a member of a tar.
type file struct {
	name string
	data []byte
}

func tarOf(t *testing.T, files ...file) []byte {
	t.Helper()
	var list []testkit.File
	for _, f := range files {
		list = append(list, testkit.Text(f.name, string(f.data)))
	}
	return testkit.Tar(list...)
}

// layer makes a layer of one file.
func layer(t *testing.T, name string, size int) []byte {
	return tarOf(t, file{name, bytes.Repeat([]byte(name[:1]), size)})
}

// testImage is an image with its layers' files, and what it takes to make an
// archive of some of them.
type testImage struct {
	name    string
	id      digest.Digest
	diffIDs []digest.Digest
	raw     []byte // its config
	files   []file
}

func imageOf(t *testing.T, name string, layers ...[]byte) *testImage {
	t.Helper()
	img := &testImage{name: name}
	for _, l := range layers {
		d := digest.FromBytes(l)
		img.diffIDs = append(img.diffIDs, d)
		img.files = append(img.files, file{d.Encoded() + ".tar", l})
	}
	var err error
	img.raw, err = json.Marshal(map[string]any{
		"os": "linux", "architecture": runtime.GOARCH,
		"rootfs": map[string]any{"type": "layers", "diff_ids": img.diffIDs},
	})
	if err != nil {
		t.Fatal(err)
	}
	img.id = digest.FromBytes(img.raw)
	return img
}

func (img *testImage) config() file { return file{img.id.Encoded() + ".json", img.raw} }

func (img *testImage) manifest() file {
	var names []string
	for _, f := range img.files {
		names = append(names, f.name)
	}
	b, _ := json.Marshal([]map[string]any{{
		"Config": img.config().name, "RepoTags": []string{img.name}, "Layers": names,
	}})
	return file{"manifest.json", b}
}

// archive makes a docker-archive that has only these of the image's layers.
func (img *testImage) archive(t *testing.T, layers ...[]byte) []byte {
	t.Helper()
	files := []file{img.config(), img.manifest()}
	for _, f := range img.files {
		for _, l := range layers {
			if bytes.Equal(f.data, l) {
				files = append(files, f)
			}
		}
	}
	return tarOf(t, files...)
}

// startDockerd runs a dockerd until the end of the test.
func startDockerd(t *testing.T) *Engine {
	t.Helper()
	dir := testkit.SocketDir(t) // its containerd has sockets below it too
	host := "unix://" + filepath.Join(dir, "s")
	log, err := os.Create(filepath.Join(t.TempDir(), "dockerd.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("dockerd",
		"--data-root", filepath.Join(t.TempDir(), "root"), "--exec-root", filepath.Join(dir, "x"),
		"--pidfile", filepath.Join(dir, "pid"), "-H", host, "--iptables=false", "--bridge=none")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(20 * time.Second):
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-exited
		}
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("dockerd's log:\n%s", text)
		}
	})

	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		e, err := Connect(t.Context(), Options{Host: host})
		if err == nil {
			t.Cleanup(func() { e.Close() })
			return e
		}
		if !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		select {
		case err := <-exited:
			exited <- err
			t.Fatal(fmt.Errorf("dockerd ended: %w", err))
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
