//go:build e2e

package engine

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// restarted is an Engine whose decompressors hang, with a container that runs on while the
// Engine is restarted.
type restarted struct {
	*kit.Dockerd
	broken    *kit.BrokenUnpigz
	service   *kit.Service
	reg       *kit.Registry
	base      kit.Layer
	container string // its ID
	pid       string
	made      int // images
}

func startRestarted(t *testing.T, release kit.Release) *restarted {
	t.Helper()
	broken := kit.PlantUnpigz(t, "unpigz", "igzip")
	s := &restarted{
		Dockerd: kit.StartDockerd(t, kit.DockerdOptions{Release: release, PathFirst: broken.Dir}), broken: broken,
		reg: kit.StartRegistry(t, kit.RegistryOptions{}), base: kit.BaseLayer(t, 0),
	}
	s.service = s.Service(t)
	s.Configure(t, `{"live-restore": true}`)
	sleeper := s.reg.Push(t, "sleeper:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{s.base}, Cmd: []string{"/bin/sleep", "3600"}}))
	s.pull(t, sleeper).Expect(t, 0, "data-root "+s.Root, "the Engine did not answer for")
	s.container = s.Must(t, "run", "-d", "--network", "none", "--security-opt", "seccomp=unconfined", sleeper)
	s.pid = s.Must(t, "inspect", "-f", "{{.State.Pid}}", s.container)
	s.service.Asked()
	return s
}

// end ends the container, which does not end with the Engine.
func (s *restarted) end(t *testing.T) {
	if s.Docker(t, "rm", "-f", s.container).Code != 0 {
		pid, _ := strconv.Atoi(s.pid)
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// args are those of a pull with a restart.
func (s *restarted) args(args ...string) []string {
	return append([]string{"--restart-engine", "--restart-command", s.service.Command}, args...)
}

func (s *restarted) pull(t *testing.T, args ...string) kit.Result {
	t.Helper()
	return s.User(t).Fastpull(t, s.args(args...)...)
}

// image pushes a new image that prints its word.
func (s *restarted) image(t *testing.T, below ...kit.Layer) (ref, word string) {
	t.Helper()
	s.made++
	word = fmt.Sprintf("word-%d", s.made)
	return s.reg.Push(t, word+":1", kit.WordImage(t, word, append([]kit.Layer{s.base}, below...)...)), word
}

// runs runs an image.
func (s *restarted) runs(t *testing.T, ref, word string) {
	t.Helper()
	if got := s.Must(t, append(slices.Clone(runIsolated), ref)...); got != word {
		t.Errorf("docker run %s prints %q, want %q", ref, got, word)
	}
}

// expect checks that the Engine was restarted so often, and that the container runs on.
func (s *restarted) expect(t *testing.T, restarts int) {
	t.Helper()
	want := slices.Repeat([]string{"stop", "start"}, restarts)
	if got := s.service.Asked(); !slices.Equal(got, want) {
		t.Errorf("the service was asked for %q, want %q", got, want)
	}
	if now := s.Must(t, "inspect", "-f", "{{.State.Pid}} {{.State.Status}}", s.container); now != s.pid+" running" {
		t.Errorf("the container is %s, and was process %s", now, s.pid)
	}
}

// TestRestart puts images into the data-root of a running Engine, with a restart of it.
func TestRestart(t *testing.T) {
	t.Parallel()
	s := startRestarted(t, kit.Debian)
	defer s.end(t)
	for _, part := range []struct {
		name string
		test func(*restarted, *testing.T)
	}{
		{"Many", (*restarted).testMany}, {"Stage", (*restarted).testStage}, {"Failure", (*restarted).testFailure},
		{"Interrupt", (*restarted).testInterrupt}, {"Kill", (*restarted).testKill}, {"Refused", (*restarted).testRefused},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.test(s, t) }) {
			return
		}
	}
	s.User(t).Fastpull(t, "verify", "--store", s.Root).Expect(t, 0)
	if pids := s.broken.Starts(t); len(pids) > 0 {
		t.Errorf("the Engine has run a decompressor: %v", pids)
	}
}

// testMany has twenty images that share layers.
func (s *restarted) testMany(t *testing.T) {
	shared := kit.NoiseLayer(t, 3<<20, 1)
	var refs, words []string
	for range 20 {
		ref, word := s.image(t, shared)
		refs, words = append(refs, ref), append(words, word)
	}
	r := s.pull(t, append([]string{"--json"}, refs...)...).Expect(t, 0)
	for line := range strings.Lines(r.Stderr) {
		if strings.Contains(line, "did not answer") {
			t.Log(line)
		}
	}
	sum := r.Summary(t)
	if sum.BytesFetched > 4<<20 || len(sum.Images) != 20 || sum.Images[7].Status != "pulled" {
		t.Errorf("%+v", sum)
	}
	s.expect(t, 1)
	for _, i := range []int{0, 19} {
		s.runs(t, refs[i], words[i])
	}
	s.Must(t, "save", "-o", filepath.Join(t.TempDir(), "saved.tar"), refs[3])
	kit.ExpectOwnClean(t, s.Root)

	// What is there is not fetched again, and the Engine is left alone.
	sum = s.pull(t, append([]string{"--json"}, refs...)...).Expect(t, 0).Summary(t)
	if sum.BytesFetched > 0 || sum.Images[0].Status != "exists" {
		t.Errorf("the second time: %+v", sum)
	}
	s.expect(t, 0)
	// Another name for what is there needs no restart.
	s.made++
	same := kit.WordImage(t, "the same", s.base, shared)
	first := s.reg.Push(t, "first:1", same)
	s.pull(t, first).Expect(t, 0)
	s.expect(t, 1)
	second := s.reg.Push(t, "second:1", same)
	s.pull(t, second).Expect(t, 0)
	s.expect(t, 0)
	s.runs(t, second, "the same")
	s.pull(t, "--dry-run", refs[0]).Expect(t, 0)
	ref, _ := s.image(t)
	s.pull(t, "--dry-run", ref).Expect(t, 0, "data-root")
	s.expect(t, 0)
}

// testStage stages images for a user that restarts the Engine otherwise.
func (s *restarted) testStage(t *testing.T) {
	ref, word := s.image(t, kit.NoiseLayer(t, 1<<20, 2))
	other, _ := s.image(t)
	u := s.User(t)
	u.Fastpull(t, "--store", s.Root, "--stage", ref).Expect(t, 0, "staged", "fastpull publish --store")
	s.reg.Traffic(t)
	sum := u.Fastpull(t, "--store", s.Root, "--stage", "--json", ref, other).Expect(t, 0).Summary(t)
	if sum.Images[0].Status != "exists" || sum.Images[1].Status != "pulled" {
		t.Errorf("staged again: %+v", sum)
	}
	u.Fastpull(t, "images", "--store", s.Root).Expect(t, 0, word, ", staged")
	u.Fastpull(t, "du", "--store", s.Root).Expect(t, 0, "staged images")
	u.Fastpull(t, "verify", "--store", filepath.Join(s.Root, "fastpull/staged")).Expect(t, 0, "2 images")
	u.Fastpull(t, "rm", "--store", filepath.Join(s.Root, "fastpull/staged"), other).Expect(t, 0)
	u.Fastpull(t, "publish", "--store", s.Root).Expect(t, 1, "dockerd that is running")
	s.expect(t, 0)
	if s.Docker(t, "image", "inspect", ref).Code == 0 {
		t.Error("the Engine has the image before it is published")
	}
	u.Fastpull(t, "prune", "--store", s.Root, "--staged").Expect(t, 0, "1 staged image")
	u.Fastpull(t, "--store", s.Root, "--stage", ref).Expect(t, 0)
	kit.Run(t, s.service.Command, "stop")
	u.Fastpull(t, "publish", "--store", s.Root).Expect(t, 0, "published "+ref)
	u.Fastpull(t, "publish", "--store", s.Root).Expect(t, 0, "nothing is staged")
	s.service.Again(t)
	s.expect(t, 1)
	s.runs(t, ref, word)
	kit.ExpectOwnClean(t, s.Root)
}

// testFailure has a publication fail when the Engine is stopped. The Engine is started again.
func (s *restarted) testFailure(t *testing.T) {
	spoil := filepath.Join(s.Root, "image/btrfs")
	script := filepath.Join(t.TempDir(), "service")
	text := fmt.Sprintf("#!/bin/sh\n[ $1 = start ] && /bin/rmdir %[1]s\n%[2]s $1 || exit 1\n[ $1 = stop ] && /bin/mkdir %[1]s\nexit 0\n", spoil, s.service.Command)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	ref, word := s.image(t)
	u := s.User(t)
	u.Fastpull(t, "--restart-engine", "--restart-command", script, ref).Expect(t, 1, "storage driver btrfs")
	s.expect(t, 1)
	// One that cannot stop it, which is still there.
	u.Fastpull(t, "--restart-engine", "--restart-command", "/bin/false", ref).Expect(t, 1, "stop the Engine", "start the Engine again")
	s.expect(t, 0)
	// What the command says is JSON, too, where that is asked for.
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho no way to $1 it\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := u.Fastpull(t, "--progress=json", "--restart-engine", "--restart-command", script, ref).Expect(t, 1, `{"type":"note","text":"no way to stop it"}`)
	for line := range strings.Lines(r.Stderr) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	s.expect(t, 0)
	sum := s.pull(t, "--json", ref).Expect(t, 0).Summary(t)
	if sum.BytesFetched > 0 {
		t.Errorf("%d bytes of what was staged were fetched again", sum.BytesFetched)
	}
	s.expect(t, 1)
	s.runs(t, ref, word)
}

// testInterrupt presses Ctrl-C twice while the Engine is stopped.
func (s *restarted) testInterrupt(t *testing.T) {
	ref, word := s.image(t)
	r := s.User(t).Start(t, s.args(ref)...)
	r.Says(t, "restarting the Engine")
	for range 2 {
		r.Signal(t, syscall.SIGINT)
		time.Sleep(50 * time.Millisecond)
	}
	r.Wait(t)
	if !kit.Eventually(time.Minute, func() bool { return s.Docker(t, "version").Code == 0 }) {
		t.Fatal("the Engine was not started again")
	}
	s.expect(t, 1)
	s.runs(t, ref, word)
}

// testKill kills fastpull at random moments, as it stages, publishes, and restarts the
// Engine. FASTPULL_KILLS is how many times. The Engine starts on the data-root each time.
func (s *restarted) testKill(t *testing.T) {
	kills := int(kit.FromEnv(t, "FASTPULL_KILLS", 3))
	took := map[string]time.Duration{"stage": 400 * time.Millisecond, "publish": 200 * time.Millisecond, "restart": 2 * time.Second}
	killed := map[string]int{}
	for i := range kills {
		kind := []string{"stage", "publish", "restart"}[i%3]
		ref, word := s.image(t, kit.NoiseLayer(t, 1<<20, uint64(1000+i)))
		u := s.User(t)
		args := s.args(ref)
		switch kind {
		case "stage":
			args = []string{"--store", s.Root, "--stage", ref}
		case "publish":
			u.Fastpull(t, "--store", s.Root, "--stage", ref).Expect(t, 0)
			kit.Run(t, s.service.Command, "stop")
			args = []string{"publish", "--store", s.Root}
		}
		delay := time.Duration(rand.Int64N(int64(took[kind])))
		when := fmt.Sprintf("kill %d, of %s after %v", i, kind, delay)
		r := u.Start(t, args...)
		time.Sleep(delay)
		r.Cmd.Process.Kill() // or it has ended by itself: as good
		res := r.Wait(t)
		if res.Code == -1 {
			killed[kind]++
		} else {
			took[kind] = (took[kind] + res.Took) / 2
		}
		time.Sleep(50 * time.Millisecond) // its command may just have begun
		s.service.Again(t)
		s.service.Asked()
		s.expect(t, 0)
		u.Fastpull(t, "verify", "--store", s.Root, "--progress=quiet").Expect(t, 0)
		s.pull(t, ref).Expect(t, 0)
		s.runs(t, ref, word)
		s.service.Asked()
		if t.Failed() {
			t.Fatal(when)
		}
		s.Must(t, "rmi", ref)
	}
	t.Logf("killed in the middle: %v", killed)
	// Blobs that were kept for a pull that was killed, and whose layers were staged by then.
	s.User(t).Fastpull(t, "prune", "--store", s.Root, "--staged").Expect(t, 0, "0 staged images")
	kit.ExpectOwnClean(t, s.Root)
}

// testRefused has an Engine whose container would stop. Nothing is fetched before that is
// found out.
func (s *restarted) testRefused(t *testing.T) {
	s.Configure(t, `{"live-restore": false}`)
	ref, word := s.image(t)
	s.reg.Traffic(t)
	s.pull(t, ref).Expect(t, 1, "1 container would stop with it", `"live-restore": true`, "kill -HUP", "--restart-engine=force")
	u := s.User(t)
	u.Fastpull(t, "--restart-engine", ref).Expect(t, 1, "no systemd service has it", "--restart-command", "fastpull publish --store "+s.Root)
	u.Fastpull(t, "--restart-engine", "--restart-command", "/none here", ref).Expect(t, 2, "/none")
	u.Fastpull(t, "--restart-engine=now", ref).Expect(t, 2, "careful or force")
	u.Fastpull(t, "--stage", ref).Expect(t, 2, "--store")
	u.Fastpull(t, "--restart-command", "x", ref).Expect(t, 2, "--restart-engine")
	kit.NewUser(t, "DOCKER_HOST=tcp://127.0.0.1:1").Fastpull(t, "--restart-engine", ref).Expect(t, 1)
	if gets := s.reg.Traffic(t); len(gets) > 0 {
		t.Errorf("%d requests were made before", len(gets))
	}
	s.expect(t, 0)
	u.Fastpull(t, "--restart-engine=force", "--restart-command", s.service.Command, ref).Expect(t, 0, "does not run now")
	if got := s.Must(t, "ps", "-q"); got != "" {
		t.Errorf("a container runs: %s", got)
	}
	s.runs(t, ref, word)
}

// TestRestart29 has Docker 29 with overlay2, and one with containerd's store, which needs no
// restart.
func TestRestart29(t *testing.T) {
	t.Parallel()
	s := startRestarted(t, kit.TodayOverlay)
	defer s.end(t)
	ref, word := s.image(t, kit.NoiseLayer(t, 1<<20, 2))
	s.pull(t, ref).Expect(t, 0)
	s.expect(t, 1)
	s.runs(t, ref, word)
	if out := s.Must(t, "images", "--format", "{{.Repository}}"); !strings.Contains(out, word) {
		t.Errorf("docker images: %s", out)
	}
	// A bundle goes the same way.
	ref, word = s.image(t)
	u := s.User(t)
	u.Fastpull(t, "bundle", "-o", u.Home+"/b", ref).Expect(t, 0)
	u.Fastpull(t, append([]string{"load"}, s.args(u.Home+"/b")...)...).Expect(t, 0)
	s.expect(t, 1)
	s.runs(t, ref, word)
	u.Fastpull(t, "verify", "--store", s.Root).Expect(t, 0, "3 images")
}
