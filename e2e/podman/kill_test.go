//go:build e2e

package podman

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestPodmanKill kills runs at random moments. FASTPULL_KILLS is how many.
func TestPodmanKill(t *testing.T) {
	t.Parallel()
	endAtRandom(t, syscall.SIGKILL, -1)
}

// TestPodmanInterrupt interrupts runs at random moments.
func TestPodmanInterrupt(t *testing.T) {
	t.Parallel()
	endAtRandom(t, syscall.SIGINT, 130)
}

// endAtRandom ends runs by a signal, with an exit code. After each end Podman uses the store, the
// next run completes the image, and nothing is left of the run that was ended.
func endAtRandom(t *testing.T, sig syscall.Signal, code int) {
	t.Helper()
	kills := int(kit.FromEnv(t, "FASTPULL_KILLS", 3))
	ship := kit.NewShipment(t)
	s := newStore(t)
	ref, flag := ship.Refs[0], "--podman="+s.root
	whole := kit.Fastpull(t, flag, ref).Expect(t, 0).Took
	killed := 0
	for run := 0; killed < kills && run < 10*kills; run++ {
		s.podman(t, "rmi", "--all", "--force")
		delay := time.Duration(rand.Int64N(int64(whole)))
		p := kit.NewUser(t).Start(t, flag, ref)
		time.Sleep(delay)
		p.Signal(t, sig)
		if p.Wait(t).Code == code {
			killed++
		}
		when := fmt.Sprintf("ended after %v of %v", delay, whole)
		s.podman(t, "images")
		kit.Fastpull(t, flag, ref).Expect(t, 0)
		if got := s.runs(t, ref); got != kit.Words[0] {
			t.Errorf("%s: podman run prints %q", when, got)
		}
		saved(t, s, ref, ship.Images[0])
		left, _ := filepath.Glob(s.root + "/overlay/staging/*")
		more, _ := filepath.Glob(s.root + "/overlay/.fastpull-staging-*")
		if left = append(left, more...); len(left) > 0 {
			t.Errorf("%s: left: %v", when, left)
		}
		if found := s.check(t); found != "" {
			t.Errorf("%s: the library finds\n%s", when, found)
		}
		if got, want := len(s.records(t, "overlay-layers/layers.json")), len(ship.Images[0].Layers); got != want {
			t.Errorf("%s: %d layers, want %d", when, got, want)
		}
	}
	if killed < kills {
		t.Errorf("%d runs were ended, want %d", killed, kills)
	}
}

// TestPodmanTogether has Podman and several fastpulls pull the same images into one store.
func TestPodmanTogether(t *testing.T) {
	t.Parallel()
	ship := kit.NewShipment(t)
	s := newStore(t)
	var wg sync.WaitGroup
	for range 2 {
		p := kit.NewUser(t).Start(t, append([]string{"--podman=" + s.root}, ship.Refs...)...)
		wg.Go(func() { p.Wait(t).Expect(t, 0) })
	}
	for _, ref := range ship.Refs {
		cmd := s.command(t, "pull", "-q", "--tls-verify=false", ref)
		wg.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("podman pull %s: %v\n%s", ref, err, out)
			}
		})
	}
	wg.Wait()
	for i, ref := range ship.Refs {
		if got := s.runs(t, ref); got != kit.Words[i] {
			t.Errorf("podman run %s prints %q", ref, got)
		}
		saved(t, s, ref, ship.Images[i])
	}
	if left, _ := filepath.Glob(s.root + "/overlay/staging/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestPodmanCommands runs commands of Podman while a layer is extracted and the others wait.
// At its end, each command of Podman 4 removes what the library stages.
func TestPodmanCommands(t *testing.T) {
	t.Parallel()
	ship := kit.NewShipment(t)
	s := newStore(t)
	g := kit.StartGate(t, ship.Reg)
	g.ArmBlob(ship.Images[0].Layers[1].Digest)
	ref := g.Addr + strings.TrimPrefix(ship.Refs[0], ship.Reg.Addr)
	p := kit.NewUser(t).Start(t, "--podman="+s.root, ref)
	g.WaitReached(t, &p.Err)
	staged := func() []string {
		dirs, _ := filepath.Glob(s.root + "/overlay/.fastpull-staging-*/*/dir")
		return dirs
	}
	if !kit.Eventually(time.Minute, func() bool { return len(staged()) == len(ship.Images[0].Layers) }) {
		t.Fatalf("staged: %q\n%s", staged(), p.Err.String())
	}
	before := staged()
	s.podman(t, "images")
	s.podman(t, "ps")
	if after := staged(); !slices.Equal(after, before) {
		t.Errorf("staged after commands of Podman: %q, before: %q", after, before)
	}
	g.Open()
	p.Wait(t).Expect(t, 0)
	if got := s.runs(t, ref); got != kit.Words[0] {
		t.Errorf("podman run prints %q", got)
	}
	if found := s.check(t); found != "" {
		t.Errorf("the library finds\n%s", found)
	}
}

// TestPodmanIncomplete has records of images without a document, as a kill leaves them: the
// library writes one after the other. The next run completes the image, and fetches no layer.
func TestPodmanIncomplete(t *testing.T) {
	t.Parallel()
	ship := kit.NewShipment(t)
	s := newStore(t)
	ref, flag, file := ship.Refs[0], "--podman="+s.root, filepath.Join(s.root, "overlay-images/images.json")
	kit.Fastpull(t, flag, ref).Expect(t, 0)
	id := ship.Images[0].ID.Hex
	whole := s.records(t, "overlay-images/images.json")[id]
	want := whole["big-data-digests"]
	for _, key := range whole["big-data-names"].([]any) {
		record := s.records(t, "overlay-images/images.json")[id]
		record["big-data-names"] = slices.DeleteFunc(record["big-data-names"].([]any), func(name any) bool { return name == key })
		for _, of := range []string{"big-data-sizes", "big-data-digests"} {
			delete(record[of].(map[string]any), key.(string))
		}
		data, err := json.Marshal([]any{record})
		if err != nil {
			t.Fatal(err)
		}
		document := filepath.Join(s.root, "overlay-images", id, "="+base64.StdEncoding.EncodeToString([]byte(key.(string))))
		if key == "manifest" {
			document = filepath.Join(s.root, "overlay-images", id, "manifest")
		}
		if err := errors.Join(os.WriteFile(file, data, 0o600), os.Remove(document)); err != nil {
			t.Fatal(err)
		}
		ship.Reg.Traffic(t)
		kit.Fastpull(t, flag, ref).Expect(t, 0)
		traffic := ship.Reg.Traffic(t)
		for _, l := range ship.Images[0].Layers {
			if gets, _ := traffic.Blob(l.Digest); gets > 0 {
				t.Errorf("without %s layer %s is fetched", key, l.Digest)
			}
		}
		if strings.HasPrefix(key.(string), "signature-") { // it has none, and Podman does not miss them
			saved(t, s, ref, ship.Images[0])
			continue
		}
		got := s.records(t, "overlay-images/images.json")[id]
		if fmt.Sprint(got["big-data-digests"]) != fmt.Sprint(want) {
			t.Errorf("without %s: the documents are %v, want %v", key, got["big-data-digests"], want)
		}
	}
	if got := s.runs(t, ref); got != kit.Words[0] {
		t.Errorf("podman run prints %q", got)
	}
}
