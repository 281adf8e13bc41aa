//go:build e2e

package engine

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
	"github.com/fastpull/fastpull/internal/faulty"
)

const (
	partLabel = "org.fastpull.part"
	partRepo  = "fastpull.invalid/part"
)

// relayed is an Engine whose decompressors hang, and which has an image, a dangling image and
// a container of the user's.
type relayed struct {
	*kit.Dockerd
	broken *kit.BrokenUnpigz
	reg    *kit.Registry
	im     kit.Image
	ref    string
	others []string // what the Engine had before
	today  bool     // it is Docker 29
}

func startRelayed(t *testing.T, r kit.Release) *relayed {
	t.Helper()
	broken := kit.PlantUnpigz(t, "unpigz", "igzip")
	s := &relayed{Dockerd: kit.StartDockerd(t, kit.DockerdOptions{Release: r, PathFirst: broken.Dir}), broken: broken, today: r == kit.TodayOverlay, reg: kit.StartRegistry(t, kit.RegistryOptions{})}
	empty := kit.MakeLayer(t, kit.Gzipped)
	s.im = kit.MakeImage(t, kit.ImageSpec{OCI: true, Cmd: []string{"/bin/cat", "/word"}, Layers: []kit.Layer{
		kit.NoiseLayer(t, 5<<20, 6), kit.BaseLayer(t, 0), kit.NoiseLayer(t, 5<<20, 1), empty,
		kit.MakeLayer(t, kit.Members, kit.Noise("members", 5<<20, 2)), kit.MakeLayer(t, kit.Zstded, kit.Noise("zstd", 5<<20, 3)), empty,
		kit.MakeLayer(t, kit.Unpacked, kit.Noise("plain", 5<<20, 4)), kit.NoiseLayer(t, 5<<20, 5), kit.SmallLayer(t, "word", "the last layer\n"),
	}})
	s.ref = s.reg.Push(t, "img:1", s.im)

	keep := s.reg.Push(t, "keep:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "kept", "1")}}))
	s.User(t).Fastpull(t, "--load", keep).Expect(t, 0)
	s.Must(t, "create", keep, "/kept")
	for _, change := range []string{"LABEL a=b", "LABEL " + partLabel + "=of/another"} {
		cmd, out, errs := s.Command(t, "import", "--change", change, "-")
		cmd.Stdin = strings.NewReader(string(kit.SmallLayer(t, "dangling", change).Plain))
		if err := cmd.Run(); err != nil {
			t.Fatalf("docker import: %v\n%s%s", err, out, errs)
		}
	}
	s.others = s.images(t)
	return s
}

// images returns all images of the Engine.
func (s *relayed) images(t *testing.T) []string {
	t.Helper()
	list := strings.Fields(s.Must(t, "images", "-a", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}}@{{.ID}}"))
	slices.Sort(list)
	return list
}

// parts returns the names of the parts in the Engine.
func (s *relayed) parts(t *testing.T) []string {
	t.Helper()
	return strings.Fields(s.Must(t, "images", partRepo, "--format", "{{.Repository}}:{{.Tag}}"))
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
	if n := len(strings.Fields(s.Must(t, "ps", "-aq"))); n != 1 {
		t.Fatalf("%s: %d containers, want 1", when, n)
	}
}

// expectLoaded checks that the Engine has the image, and nothing else that it did not have.
func (s *relayed) expectLoaded(t *testing.T, when string) {
	t.Helper()
	s.expectKept(t, when)
	if got := s.Inspect(t, s.ref).ID; got != s.im.ID.String() {
		t.Errorf("%s: the image is %s, want %s", when, got, s.im.ID)
	}
	if have := s.images(t); len(have) != len(s.others)+1 {
		t.Errorf("%s: the Engine has\n%s\nwant only one more than\n%s", when, strings.Join(have, "\n"), strings.Join(s.others, "\n"))
	}
}

// remove takes the image away, so that it can be loaded again.
func (s *relayed) remove(t *testing.T) {
	t.Helper()
	s.Must(t, "rmi", "-f", s.ref)
}

// TestRelay loads an image of many layers into Engines with overlay2. They register each
// layer while the next one comes. Nothing is left of that, whatever happens in between.
func TestRelay(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]kit.Release{"Docker20.10": kit.Debian, "Docker29": kit.TodayOverlay} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRelayed(t, r)
			t.Run("Load", s.testLoad)
			t.Run("Bundle", s.testBundle)
			t.Run("Prune", s.testPrune)
			t.Run("Leftover", s.testLeftover)
			t.Run("Refused", s.testRefused)
			t.Run("Damaged", s.testDamaged)
			t.Run("Kill9", s.testKill)
			if pids := s.broken.Starts(t); len(pids) > 0 {
				t.Errorf("the Engine has run a decompressor: %v", pids)
			}
		})
	}
}

func (s *relayed) testLoad(t *testing.T) {
	begun := time.Now()
	sum := s.User(t).Fastpull(t, "--load", "--json", s.ref).Expect(t, 0).Summary(t)
	s.expectLoaded(t, "loaded")
	loads := s.since(t, begun, "load")
	if slices.Sort(loads); len(slices.Compact(loads)) != 5 || !slices.Contains(loads, s.im.ID.String()) {
		t.Errorf("the Engine has loaded %q, want the image and 4 parts", loads)
	}
	if imports := s.since(t, begun, "import"); len(imports) != 1 {
		t.Errorf("the Engine has imported %q, want the lowest layer", imports)
	}
	var plain int64
	for _, l := range s.im.Layers {
		plain += int64(len(l.Plain))
	}
	if most := plain + plain/100 + 64<<10; sum.BytesSent > most {
		t.Errorf("%d bytes were sent of layers that have %d", sum.BytesSent, plain)
	}
	if got := s.Must(t, append(slices.Clone(runIsolated), s.ref)...); got != "the last layer" {
		t.Errorf("it prints %q", got)
	}
	if again := s.User(t).Fastpull(t, "--load", "--json", s.ref).Expect(t, 0).Summary(t); again.BytesSent > 0 {
		t.Errorf("the second time %d bytes were sent", again.BytesSent)
	}
	s.remove(t)
}

// since returns the images of which the Engine has told an event.
func (s *relayed) since(t *testing.T, begun time.Time, event string) []string {
	t.Helper()
	return strings.Fields(s.Must(t, "events", "--since", fmt.Sprintf("%d.%09d", begun.Unix(), begun.Nanosecond()), "--until", fmt.Sprint(time.Now().Unix()+1),
		"--filter", "event="+event, "--format", "{{.ID}}"))
}

// testRefused loads into an Engine that takes no import, as one may with an authorization plugin.
func (s *relayed) testRefused(t *testing.T) {
	sock := proxyEngine(t, s.Sock, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/images/create") {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"message":"authorization denied by plugin imports"}`)
		return true
	}, nil)
	kit.NewUser(t, "DOCKER_HOST=unix://"+sock).Fastpull(t, "--load", s.ref).Expect(t, 0, "did not import the lowest layer", "denied by plugin imports")
	s.expectLoaded(t, "without an import")
	s.remove(t)
}

// testDamaged has the lowest layer come damaged, at first or always.
func (s *relayed) testDamaged(t *testing.T) {
	lowest := s.im.Layers[0].Digest.String()
	for times, code := range map[int]int{1: 0, faulty.Always: 5} {
		begun := time.Now()
		p := kit.StartFaulty(t, s.reg, faulty.Options{Script: faulty.Rules(faulty.Rule{On: faulty.Blob, Path: lowest, Which: faulty.Whole, Times: times, Do: faulty.Flip(4 << 20)})})
		s.User(t).Fastpull(t, "--load", strings.Replace(s.ref, s.reg.Addr, p.Addr, 1)).Expect(t, code, "sha256")
		if len(p.Faults()) == 0 {
			t.Fatal("nothing was damaged")
		}
		when := fmt.Sprintf("damaged %d times", times)
		s.expectKept(t, when)
		if imports := s.since(t, begun, "import"); len(imports) > 0 {
			t.Errorf("%s: the Engine has imported %q", when, imports)
		}
		if code != 0 {
			if have := s.images(t); len(have) != len(s.others) {
				t.Errorf("%s: the Engine has %q", when, have)
			}
			continue
		}
		s.Must(t, "rmi", "-f", strings.Replace(s.ref, s.reg.Addr, p.Addr, 1))
	}
}

func (s *relayed) testBundle(t *testing.T) {
	forms := []string{"plain", "keep"}
	if s.today {
		forms = forms[1:]
	}
	for _, form := range forms {
		u := s.User(t)
		u.Fastpull(t, "bundle", "--layers", form, "-o", u.Home+"/b", s.ref).Expect(t, 0)
		u.Fastpull(t, "load", "--load", u.Home+"/b").Expect(t, 0)
		s.expectLoaded(t, form)
		s.remove(t)
	}
}

// testPrune has another user remove dangling and unused images all the time.
func (s *relayed) testPrune(t *testing.T) {
	r := s.User(t).Start(t, "--load", s.ref)
	done := make(chan kit.Result, 1)
	go func() { done <- r.Wait(t) }()
	for {
		select {
		case res := <-done:
			res.Expect(t, 0)
			s.expectLoaded(t, "pruned meanwhile")
			s.remove(t)
			return
		default:
		}
		for _, part := range s.parts(t) {
			s.Docker(t, "rmi", part) // as docker image prune -a does, but for the user's images
		}
	}
}

// testLeftover kills a load that has left a part, of which the user makes something.
func (s *relayed) testLeftover(t *testing.T) {
	g := kit.StartGate(t, s.reg)
	uses := []string{"", "tag", "create"}
	if s.today {
		uses = uses[:1] // the sweep is the same
	}
	for _, use := range uses {
		g.ArmBlob(s.im.Layers[len(s.im.Layers)-2].Digest) // the last large layer does not come
		r := s.User(t).Start(t, "--load", g.Addr+"/img:1")
		g.WaitReached(t, &r.Err)
		var parts []string
		if !kit.Eventually(time.Minute, func() bool { parts = s.parts(t); return len(parts) > 0 }) {
			t.Fatalf("no part has come\n%s", r.Err.String())
		}
		r.Signal(t, syscall.SIGKILL)
		r.Wait(t)
		g.Open()
		parts = s.parts(t)
		if len(parts) == 0 {
			t.Fatal("no part is left")
		}
		switch use {
		case "tag":
			s.Must(t, "tag", parts[0], "mine:1")
		case "create":
			s.Must(t, "create", "--name", "mine", parts[0], "/word")
		}
		sum := s.User(t).Fastpull(t, "--load", "--json", s.ref).Expect(t, 0).Summary(t)
		if sum.BytesSent > 31<<20 {
			t.Errorf("%d bytes were sent, although the Engine had the lowest layers", sum.BytesSent)
		}
		switch use {
		case "tag":
			s.Must(t, "inspect", "mine:1")
			s.Must(t, "rmi", "mine:1")
		case "create":
			s.Must(t, "inspect", "mine", parts[0])
			s.Must(t, "rm", "mine")
			s.User(t).Fastpull(t, "--load", s.ref).Expect(t, 0)
		}
		s.expectLoaded(t, "after a part of a killed load, "+use)
		s.remove(t)
	}
}

// testKill kills loads at random moments. FASTPULL_KILLS is how many.
func (s *relayed) testKill(t *testing.T) {
	kills := int(kit.FromEnv(t, "FASTPULL_KILLS", 2))
	whole := s.User(t).Fastpull(t, "--load", s.ref).Expect(t, 0).Took
	s.remove(t)
	for i := range kills {
		delay := time.Duration(rand.Int64N(int64(whole)))
		when := fmt.Sprintf("kill %d, after %v", i, delay)
		r := s.User(t).Start(t, "--load", s.ref)
		time.Sleep(delay)
		r.Cmd.Process.Kill() // or it has ended by itself: as good
		r.Wait(t)
		s.expectKept(t, when)
		s.User(t).Fastpull(t, "--load", s.ref).Expect(t, 0)
		// The Engine may have gone on with what it had when the load was killed.
		if len(s.parts(t)) > 0 {
			t.Logf("%s: a part came after the next run", when)
			s.User(t).Fastpull(t, "--load", s.ref).Expect(t, 0)
		}
		s.expectLoaded(t, when)
		s.remove(t)
	}
}
