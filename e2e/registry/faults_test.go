//go:build e2e

package registry

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
	"github.com/fastpull/fastpull/internal/faulty"
)

var (
	faultPulls  = flag.Int("faults.pulls", 40, "pulls of TestRandomFaults")
	faultSeed   = flag.Uint64("faults.seed", 0, "seed of TestRandomFaults; 0 takes one by chance")
	faultUpdate = flag.Bool("faults.update", false, "write the table in docs/faults.md")
)

// faultLimits are the flags with which a case need not wait long.
var faultLimits = []string{"--stall-timeout=1s", "--retries=4", "--min-rate=20000"}

// faultyPull pulls repository img:tag through a proxy into a plain directory,
// and ends what takes too long.
func faultyPull(t *testing.T, p *faulty.Proxy, o faulty.Options, rootfs, image string, atMost time.Duration, args ...string) kit.Result {
	t.Helper()
	args = slices.Concat(args, faultLimits, []string{"--rootfs", rootfs, "--no-sync", p.Addr + "/" + image})
	if !o.TLS {
		args = append(args, "--plain-http")
	}
	r := kit.NewUser(t).Start(t, args...)
	defer time.AfterFunc(atMost, func() { r.Cmd.Process.Kill() }).Stop()
	return r.Wait(t)
}

// TestFaults has one thing go wrong at a time, over HTTP/1.1 and HTTP/2, with a
// layer that comes by one connection and one that several share in.
func TestFaults(t *testing.T) {
	begun := time.Now()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	type subject struct {
		name string
		im   kit.Image
		good string
		args []string
	}
	var subjects []subject
	for _, s := range []subject{{name: "one:tag"}, {name: "shared:tag", args: []string{"--chunk-size=1MiB"}}} {
		size := faultySize
		if s.args != nil {
			size = sharedSize
		}
		// One layer: a port that is closed would hit others at a moment of chance.
		s.im = kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, size, 1)}})
		s.good = filepath.Join(t.TempDir(), "rootfs")
		kit.Fastpull(t, "--rootfs", s.good, reg.Push(t, s.name, s.im)).Expect(t, 0)
		subjects = append(subjects, s)
	}
	for _, tc := range faultCases() {
		for _, s := range subjects {
			for _, h2 := range []bool{false, true} {
				name, _, _ := strings.Cut(s.name, ":")
				t.Run(strings.ReplaceAll(tc.name, " ", "-")+"/"+name+map[bool]string{false: "/1", true: "/2"}[h2], func(t *testing.T) {
					t.Parallel()
					tc.run(t, reg, s.im, s.name, s.args, h2, s.good, begun)
				})
			}
		}
	}
}

func (tc faultCase) run(t *testing.T, reg *kit.Registry, im kit.Image, name string, args []string, h2 bool, good string, begun time.Time) {
	t.Helper()
	big := im.Layers[0]
	rules := slices.Clone(tc.rules)
	for i, r := range rules {
		if r.Which == faulty.Ranged && r.Nth == 0 && r.Times != faulty.Always && args != nil {
			rules[i].Nth = 2 // the first request is for a range, too
		}
		switch {
		case r.Path == configPath:
			rules[i].Path = im.ID.String()
		case r.Path == "" && (r.On == faulty.Blob || r.On == faulty.Target):
			rules[i].Path = big.Digest.String()
		}
	}
	o := faulty.Options{Script: faulty.Rules(rules...), Redirect: tc.redirect, TLS: h2, HTTP2: h2}
	if tc.token {
		o.TokenLife = time.Hour
	}
	atMost := tc.atMost
	if atMost == 0 {
		atMost = 30 * time.Second
	}
	p := kit.StartFaulty(t, reg, o)
	rootfs := filepath.Join(t.TempDir(), "rootfs")
	res := faultyPull(t, p, o, rootfs, name, atMost, args...)
	if res.Code != tc.code {
		t.Errorf("exit code %d after %v, want %d\nstderr:\n%s", res.Code, res.Took, tc.code, res.Stderr)
	}
	for _, words := range tc.says {
		if !strings.Contains(strings.ToLower(res.Stderr), strings.ToLower(words)) {
			t.Errorf("does not say %q\n%s", words, res.Stderr)
		}
	}
	if len(p.Faults()) < len(tc.rules) {
		t.Errorf("of %d faults only these were met: %q", len(tc.rules), p.Faults())
	}
	if tc.refuse {
		const others = 1 // the config
		if n := p.Requests(faulty.Blob) - others; n <= len(p.Faults()) || strings.Contains(res.Stderr, "damaged") {
			t.Errorf("took a faulty answer for good: %d requests for the layer, faults %q\n%s", n, p.Faults(), res.Stderr)
		}
	}
	size := int64(len(big.Packed))
	limit := size + size/10 + tc.thrown.bytes
	switch {
	case tc.code != 0:
		limit = 3*size + buffered.bytes
	case tc.thrown == before && args != nil:
		limit += 8 << 20 // bytes on the way to the other connections, a chunk each
	case tc.thrown == theBlob:
		limit = 2*size + size/10
		if tc.refuse && args != nil {
			limit += 8 << 20 // what was on the way to the other connections, a chunk each
		}
	}
	if sent := p.Sent(big.Digest.String()); sent > limit && tc.code != 1 {
		t.Errorf("the registry sent %d bytes of a blob of %d, want %d at most: %q", sent, size, limit, p.Faults())
	}
	if res.Code != 0 {
		if left := kit.Names(t, filepath.Dir(rootfs)); len(left) > 0 {
			t.Errorf("left of a pull that failed: %q", left)
		}
		return
	}
	kit.ExpectSame(t, "not what was pushed", kit.CompareTrees(t, rootfs, good, kit.TreeOptions{MadeUp: begun}))
}

// TestRandomFaults has anything go wrong at any time. Every pull ends, and what
// succeeds is right to the last bit.
func TestRandomFaults(t *testing.T) {
	begun := time.Now()
	seed := *faultSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{
		kit.NoiseLayer(t, sharedSize, 3), kit.NoiseLayer(t, 600<<10, 1), kit.NoiseLayer(t, 300<<10, 2), kit.SmallLayer(t, "word", "small")}})
	good := filepath.Join(t.TempDir(), "rootfs")
	kit.Fastpull(t, "--rootfs", good, reg.Push(t, "img:tag", im)).Expect(t, 0)

	var mu sync.Mutex
	ends := map[int]int{}
	t.Run("pulls", func(t *testing.T) {
		for i := range *faultPulls {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				o := faulty.Options{
					Script:   faulty.Random(seed+uint64(i), 0.25, 600<<10, true),
					Redirect: i&1 != 0, TLS: i&2 != 0, HTTP2: i&2 != 0,
				}
				if i&4 != 0 {
					o.TokenLife = time.Hour
				}
				p := kit.StartFaulty(t, reg, o)
				rootfs := filepath.Join(t.TempDir(), "rootfs")
				res := faultyPull(t, p, o, rootfs, "img:tag", kit.RunDeadline, "--chunk-size=1MiB")
				mu.Lock()
				ends[res.Code]++
				mu.Unlock()
				story := fmt.Sprintf("-faults.seed=%d, pull %d: %q\n%s", seed, i, p.Faults(), res.Stderr)
				switch res.Code {
				case 0:
					kit.ExpectSame(t, "not what was pushed: "+story, kit.CompareTrees(t, rootfs, good, kit.TreeOptions{MadeUp: begun}))
				case 1, 4, 5:
					if left := kit.Names(t, filepath.Dir(rootfs)); len(left) > 0 {
						t.Errorf("left of a pull that failed: %q\n%s", left, story)
					}
				default:
					t.Errorf("exit code %d after %v\n%s", res.Code, res.Took, story)
				}
			})
		}
	})
	t.Logf("seed %d: exit code and number of pulls: %v", seed, ends)
	if ends[0] < *faultPulls/4 {
		t.Errorf("-faults.seed=%d: only %d of %d pulls succeeded: %v", seed, ends[0], *faultPulls, ends)
	}
}

const (
	tableBegin = "<!-- made by TestFaultsTable -->\n"
	tableEnd   = "<!-- end -->\n"
)

// TestFaultsTable compares the table in the docs with the cases, or writes it.
func TestFaultsTable(t *testing.T) {
	const path = "../../docs/faults.md"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(doc), tableBegin)
	_, tail, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table, between %q and %q", path, tableBegin, tableEnd)
	}
	var table strings.Builder
	table.WriteString("| what goes wrong | what comes of it | thrown away |\n| --- | --- | --- |\n")
	for _, tc := range faultCases() {
		outcome, lost := "succeeds", tc.thrown.words
		if len(tc.says) > 0 {
			outcome += fmt.Sprintf(", with a note: “%s”", strings.Join(tc.says, "”, “"))
		}
		if tc.code != 0 {
			outcome, lost = fmt.Sprintf("exit code %d, “%s”", tc.code, strings.Join(tc.says, "”, “")), ""
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", tc.name, outcome, lost)
	}
	want := head + tableBegin + table.String() + tableEnd + tail
	switch {
	case *faultUpdate:
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	case want != string(doc):
		t.Errorf("%s is not what is tested; write it by: go test -tags e2e ./e2e/registry -run TestFaultsTable -faults.update", path)
	}
}
