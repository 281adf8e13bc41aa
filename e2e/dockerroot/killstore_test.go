//go:build e2e

package dockerroot

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	"github.com/fastpull/fastpull/e2e/kit"
)

// chainsOf returns the hex digits of an image's chainIDs.
func chainsOf(im kit.Image) (chains []string) {
	var diffs []digest.Digest
	for _, l := range im.Layers {
		diffs = append(diffs, digest.Digest(l.DiffID.String()))
		chains = append(chains, identity.ChainID(diffs).Encoded())
	}
	return chains
}

// TestKillStore kills pulls, removals and prunes of one store at random moments,
// half of them with another one at work beside, which has to succeed. After every
// kill all that can be seen is whole; in the end nothing is left of those that were
// killed, and dockerd starts on it. FASTPULL_KILLS is how many, FASTPULL_SEED which.
func TestKillStore(t *testing.T) {
	t.Parallel()
	seed := kit.FromEnv(t, "FASTPULL_SEED", uint64(time.Now().UnixNano()))
	kills := int(kit.FromEnv(t, "FASTPULL_KILLS", 16))
	t.Logf("FASTPULL_SEED=%d FASTPULL_KILLS=%d", seed, kills)
	rnd := rand.New(rand.NewPCG(seed, 0))

	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	base, shared := kit.BaseLayer(t, 7), kit.NoiseLayer(t, 3<<20, 71)
	var refs []string
	for i := range 4 {
		word := fmt.Sprintf("word-%d", i)
		below := []kit.Layer{base, shared, kit.NoiseLayer(t, 1<<20, uint64(80+i)), kit.SmallLayer(t, "x", word)}
		if i == 3 {
			below = below[:1]
		}
		refs = append(refs, reg.Push(t, word+":1", kit.WordImage(t, word, below...)))
	}
	store := filepath.Join(t.TempDir(), "store")
	pull := append([]string{"--store", store, "--progress=quiet"}, refs...)
	// How long each takes undisturbed is what the moments are chosen from.
	took := map[string]time.Duration{
		"pull":  kit.Fastpull(t, pull...).Expect(t, 0).Took,
		"rm":    kit.Fastpull(t, "rm", "--store", store, refs[0]).Expect(t, 0).Took,
		"prune": kit.Fastpull(t, "prune", "--store", store).Expect(t, 0).Took,
	}
	kinds := []string{"pull", "rm", "prune"}
	command := func(kind string) []string {
		switch kind {
		case "pull":
			args := []string{"--store", store, "--progress=quiet"}
			for _, i := range rnd.Perm(len(refs))[:1+rnd.IntN(3)] {
				args = append(args, refs[i])
			}
			return args
		case "rm":
			args := []string{"rm", "--store", store}
			for _, i := range rnd.Perm(len(refs))[:1+rnd.IntN(3)] {
				args = append(args, refs[i])
			}
			return args
		}
		return []string{"prune", "--store", store, "--images"}
	}
	killed := map[string]int{}
	for n := range kills {
		kind := kinds[rnd.IntN(len(kinds))]
		victim := command(kind)
		delay := time.Duration(rnd.Int64N(int64(took[kind]) * 11 / 10))
		u := kit.NewUser(t)
		var beside *kit.Running
		var other []string
		if rnd.IntN(2) == 0 {
			other = command(kinds[rnd.IntN(len(kinds))])
			beside = kit.NewUser(t).Start(t, other...)
		}
		r := u.Start(t, victim...)
		time.Sleep(delay)
		r.Cmd.Process.Kill()
		when := fmt.Sprintf("kill %d of %q after %v, beside %q", n, victim, delay, other)
		res := r.Wait(t)
		if res.Code == -1 {
			killed[kind]++
		} else if res.Code != 0 && res.Code != 3 {
			t.Errorf("%s: exit code %d before that\n%s", when, res.Code, res.Stderr)
		}
		if beside != nil {
			// What is not there cannot be removed.
			if res := beside.Wait(t); res.Code != 0 && !(other[0] == "rm" && res.Code == 3) {
				t.Errorf("%s: the one beside ends with %d\n%s", when, res.Code, res.Stderr)
			}
		}
		if v := kit.Fastpull(t, "verify", "--store", store, "--progress=quiet"); v.Code != 0 {
			t.Fatalf("%s: verify\n%s%s", when, v.Stdout, v.Stderr)
		}
	}
	t.Logf("killed in the middle: %v", killed)

	kit.Fastpull(t, "prune", "--store", store, "--images").Expect(t, 0)
	kit.Fastpull(t, "prune", "--store", store).Expect(t, 0, "0 partial blobs, 0 B freed")
	kit.ExpectClean(t, store)
	expectNothingLoose(t, store)
	kit.Fastpull(t, pull...).Expect(t, 0)
	kit.Fastpull(t, "verify", "--store", store).Expect(t, 0, "4 images")
	d := kit.StartDockerd(t, kit.DockerdOptions{Root: store})
	for i, ref := range refs {
		d.ExpectWord(t, ref, fmt.Sprintf("word-%d", i))
	}
	d.Must(t, "save", "-o", filepath.Join(t.TempDir(), "saved.tar"), refs[0])
}

// expectNothingLoose checks that each folder of a store belongs to a layer, each
// layer to an image, and each note to a layer.
func expectNothingLoose(t *testing.T, store string) {
	t.Helper()
	root := kit.ReadDataRoot(t, store)
	caches := map[string]bool{"l": true}
	for _, id := range root.Caches {
		caches[id] = true
	}
	for _, name := range kit.Names(t, filepath.Join(store, "overlay2")) {
		if !caches[name] {
			t.Errorf("overlay2/%s belongs to no layer", name)
		}
	}
	if links := kit.Names(t, filepath.Join(store, "overlay2/l")); len(links) != len(root.Caches) {
		t.Errorf("%d links for %d layers", len(links), len(root.Caches))
	}
	var list string
	for _, id := range kit.Names(t, filepath.Join(store, "image/overlay2/imagedb/content/sha256")) {
		data, err := os.ReadFile(filepath.Join(store, "image/overlay2/imagedb/content/sha256", id))
		if err != nil {
			t.Fatal(err)
		}
		list += string(data)
	}
	for chain := range root.Caches {
		if diff := root.Text(t, "image/overlay2/layerdb/sha256", chain, "diff"); !strings.Contains(list, diff) {
			t.Errorf("no image has the layer %s", chain)
		}
	}
}
