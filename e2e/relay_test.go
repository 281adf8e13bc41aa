//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	partLabel = "org.fastpull.part"
	partRepo  = "fastpull.invalid/part"
)

// relayed is an Engine whose decompressors hang, and which has an image, a dangling image and
// a container of the user's.
type relayed struct {
	*dockerd
	broken *brokenUnpigz
	reg    *registry
	im     image
	ref    string
	others []string // what the Engine had before
}

func startRelayed(t *testing.T, r release) *relayed {
	t.Helper()
	broken := plantUnpigz(t, "unpigz", "igzip")
	s := &relayed{dockerd: startDockerd(t, dockerdOptions{release: r, pathFirst: broken.dir}), broken: broken, reg: startRegistry(t, registryOptions{})}
	empty := makeLayer(t, gzipped)
	s.im = makeImage(t, imageSpec{oci: true, cmd: []string{"/bin/cat", "/word"}, layers: []layer{
		baseLayer(t, 0), noiseLayer(t, 5<<20, 1), empty,
		makeLayer(t, members, noise("members", 5<<20, 2)), makeLayer(t, zstded, noise("zstd", 5<<20, 3)), empty,
		makeLayer(t, unpacked, noise("plain", 5<<20, 4)), noiseLayer(t, 5<<20, 5), smallLayer(t, "word", "the last layer\n"),
	}})
	s.ref = s.reg.push(t, "img:1", s.im)

	keep := s.reg.push(t, "keep:1", makeImage(t, imageSpec{layers: []layer{smallLayer(t, "kept", "1")}}))
	s.user(t).fastpull(t, "--load", keep).expect(t, 0)
	s.must(t, "create", keep, "/kept")
	for _, change := range []string{"LABEL a=b", "LABEL " + partLabel + "=of/another"} {
		cmd, out, errs := s.command(t, "import", "--change", change, "-")
		cmd.Stdin = strings.NewReader(string(smallLayer(t, "dangling", change).plain))
		if err := cmd.Run(); err != nil {
			t.Fatalf("docker import: %v\n%s%s", err, out, errs)
		}
	}
	s.others = s.images(t)
	return s
}

// images returns all images of the Engine.
func (d *dockerd) images(t *testing.T) []string {
	t.Helper()
	list := strings.Fields(d.must(t, "images", "-a", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}}@{{.ID}}"))
	slices.Sort(list)
	return list
}

// parts returns the names of the parts in the Engine.
func (d *dockerd) parts(t *testing.T) []string {
	t.Helper()
	return strings.Fields(d.must(t, "images", partRepo, "--format", "{{.Repository}}:{{.Tag}}"))
}

// expectKept checks that nothing of the user's has gone.
func (s *relayed) expectKept(t *testing.T, when string) {
	t.Helper()
	have := s.images(t)
	for _, other := range s.others {
		if !slices.Contains(have, other) {
			t.Fatalf("%s: %s is gone", when, other)
		}
	}
	if n := len(strings.Fields(s.must(t, "ps", "-aq"))); n != 1 {
		t.Fatalf("%s: %d containers, want 1", when, n)
	}
}

// expectLoaded checks that the Engine has the image, and nothing else that it did not have.
func (s *relayed) expectLoaded(t *testing.T, when string) {
	t.Helper()
	s.expectKept(t, when)
	if got := s.inspect(t, s.ref).ID; got != s.im.id.String() {
		t.Errorf("%s: the image is %s, want %s", when, got, s.im.id)
	}
	if have := s.images(t); len(have) != len(s.others)+1 {
		t.Errorf("%s: the Engine has\n%s\nwant only one more than\n%s", when, strings.Join(have, "\n"), strings.Join(s.others, "\n"))
	}
}

// remove takes the image away, so that it can be loaded again.
func (s *relayed) remove(t *testing.T) {
	t.Helper()
	s.must(t, "rmi", "-f", s.ref)
}

// TestRelay loads an image of many layers into Engines with overlay2. They register each
// layer while the next one comes. Nothing is left of that, whatever happens in between.
func TestRelay(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]release{"Docker20.10": debian, "Docker29": todayOverlay} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRelayed(t, r)
			t.Run("Load", s.testLoad)
			t.Run("Bundle", s.testBundle)
			t.Run("Prune", s.testPrune)
			t.Run("Leftover", s.testLeftover)
			t.Run("Kill9", s.testKill)
			if pids := s.broken.starts(t); len(pids) > 0 {
				t.Errorf("the Engine has run a decompressor: %v", pids)
			}
		})
	}
}

func (s *relayed) testLoad(t *testing.T) {
	begun := time.Now()
	sum := s.user(t).fastpull(t, "--load", "--json", s.ref).expect(t, 0).summary(t)
	s.expectLoaded(t, "loaded")
	loads := strings.Fields(s.must(t, "events", "--since", fmt.Sprint(begun.Unix()), "--until", fmt.Sprint(time.Now().Unix()+1),
		"--filter", "event=load", "--format", "{{.ID}}"))
	if slices.Sort(loads); len(slices.Compact(loads)) != 5 || !slices.Contains(loads, s.im.id.String()) {
		t.Errorf("the Engine has loaded %q, want the image and 4 parts", loads)
	}
	var plain int64
	for _, l := range s.im.layers {
		plain += int64(len(l.plain))
	}
	if most := plain + plain/100 + 64<<10; sum.BytesSent > most {
		t.Errorf("%d bytes were sent of layers that have %d", sum.BytesSent, plain)
	}
	if got := s.must(t, append(slices.Clone(runIsolated), s.ref)...); got != "the last layer" {
		t.Errorf("it prints %q", got)
	}
	if again := s.user(t).fastpull(t, "--load", "--json", s.ref).expect(t, 0).summary(t); again.BytesSent > 0 {
		t.Errorf("the second time %d bytes were sent", again.BytesSent)
	}
	s.remove(t)
}

func (s *relayed) testBundle(t *testing.T) {
	for _, form := range []string{"plain", "keep"} {
		u := s.user(t)
		u.fastpull(t, "bundle", "--layers", form, "-o", u.home+"/b", s.ref).expect(t, 0)
		u.fastpull(t, "load", "--load", u.home+"/b").expect(t, 0)
		s.expectLoaded(t, form)
		s.remove(t)
	}
}

// testPrune has another user remove dangling and unused images all the time.
func (s *relayed) testPrune(t *testing.T) {
	r := s.user(t).start(t, "--load", s.ref)
	done := make(chan result, 1)
	go func() { done <- r.wait(t) }()
	for {
		select {
		case res := <-done:
			res.expect(t, 0)
			s.expectLoaded(t, "pruned meanwhile")
			s.remove(t)
			return
		default:
		}
		for _, part := range s.parts(t) {
			s.docker(t, "rmi", part) // as docker image prune -a does, but for the user's images
		}
	}
}

// testLeftover kills a load that has left a part, of which the user makes something.
func (s *relayed) testLeftover(t *testing.T) {
	g := startGate(t, s.reg)
	for _, use := range []string{"", "tag", "create"} {
		g.arm(26 << 20) // the last layers do not come
		r := s.user(t).start(t, "--load", g.addr+"/img:1")
		g.hold(t, &r.err)
		var parts []string
		if !eventually(time.Minute, func() bool { parts = s.parts(t); return len(parts) > 0 }) {
			t.Fatalf("no part has come\n%s", r.err.String())
		}
		r.signal(t, syscall.SIGKILL)
		r.wait(t)
		g.open()
		parts = s.parts(t)
		if len(parts) == 0 {
			t.Fatal("no part is left")
		}
		switch use {
		case "tag":
			s.must(t, "tag", parts[0], "mine:1")
		case "create":
			s.must(t, "create", "--name", "mine", parts[0], "/word")
		}
		sum := s.user(t).fastpull(t, "--load", "--json", s.ref).expect(t, 0).summary(t)
		if sum.BytesSent > 26<<20 {
			t.Errorf("%d bytes were sent, although the Engine had the lowest layers", sum.BytesSent)
		}
		switch use {
		case "tag":
			s.must(t, "inspect", "mine:1")
			s.must(t, "rmi", "mine:1")
		case "create":
			s.must(t, "inspect", "mine", parts[0])
			s.must(t, "rm", "mine")
			s.user(t).fastpull(t, "--load", s.ref).expect(t, 0)
		}
		s.expectLoaded(t, "after a part of a killed load, "+use)
		s.remove(t)
	}
}

// testKill kills loads at random moments. FASTPULL_KILLS is how many.
func (s *relayed) testKill(t *testing.T) {
	kills, _ := strconv.Atoi(os.Getenv("FASTPULL_KILLS"))
	if kills == 0 {
		kills = 6
	}
	whole := s.user(t).fastpull(t, "--load", s.ref).expect(t, 0).took
	s.remove(t)
	for i := range kills {
		delay := time.Duration(rand.Int64N(int64(whole)))
		when := fmt.Sprintf("kill %d, after %v", i, delay)
		r := s.user(t).start(t, "--load", s.ref)
		time.Sleep(delay)
		r.cmd.Process.Kill() // or it has ended by itself: as good
		r.wait(t)
		s.expectKept(t, when)
		s.user(t).fastpull(t, "--load", s.ref).expect(t, 0)
		// The Engine may have gone on with what it had when the load was killed.
		if len(s.parts(t)) > 0 {
			t.Logf("%s: a part came after the next run", when)
			s.user(t).fastpull(t, "--load", s.ref).expect(t, 0)
		}
		s.expectLoaded(t, when)
		s.remove(t)
	}
}
