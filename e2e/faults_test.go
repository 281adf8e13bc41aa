//go:build e2e

package e2e

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
func faultyPull(t *testing.T, p *faulty.Proxy, o faulty.Options, rootfs, image string, atMost time.Duration, args ...string) result {
	t.Helper()
	args = slices.Concat(args, faultLimits, []string{"--rootfs", rootfs, "--no-sync", p.Addr + "/" + image})
	if !o.TLS {
		args = append(args, "--plain-http")
	}
	r := newUser(t).start(t, args...)
	defer time.AfterFunc(atMost, func() { r.cmd.Process.Kill() }).Stop()
	return r.wait(t)
}

// TestFaults has one thing go wrong at a time, over HTTP/1.1 and HTTP/2, with a
// layer that comes by one connection and one that several share in.
func TestFaults(t *testing.T) {
	begun := time.Now()
	reg := startRegistry(t, registryOptions{})
	type subject struct {
		name string
		im   image
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
		s.im = makeImage(t, imageSpec{layers: []layer{noiseLayer(t, size, 1)}})
		s.good = filepath.Join(t.TempDir(), "rootfs")
		fastpull(t, "--rootfs", s.good, reg.push(t, s.name, s.im)).expect(t, 0)
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

func (tc faultCase) run(t *testing.T, reg *registry, im image, name string, args []string, h2 bool, good string, begun time.Time) {
	t.Helper()
	big := im.layers[0]
	rules := slices.Clone(tc.rules)
	for i, r := range rules {
		if r.Which == faulty.Ranged && r.Nth == 0 && r.Times != faulty.Always && args != nil {
			rules[i].Nth = 2 // the first request is for a range, too
		}
		switch {
		case r.Path == configPath:
			rules[i].Path = im.id.String()
		case r.Path == "" && (r.On == faulty.Blob || r.On == faulty.Target):
			rules[i].Path = big.digest.String()
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
	p := startFaulty(t, reg, o)
	rootfs := filepath.Join(t.TempDir(), "rootfs")
	res := faultyPull(t, p, o, rootfs, name, atMost, args...)
	if res.code != tc.code {
		t.Errorf("exit code %d after %v, want %d\nstderr:\n%s", res.code, res.took, tc.code, res.stderr)
	}
	for _, words := range tc.says {
		if !strings.Contains(strings.ToLower(res.stderr), strings.ToLower(words)) {
			t.Errorf("does not say %q\n%s", words, res.stderr)
		}
	}
	if len(p.Faults()) < len(tc.rules) {
		t.Errorf("of %d faults only these were met: %q", len(tc.rules), p.Faults())
	}
	if tc.refuse {
		const others = 1 // the config
		if n := p.Requests(faulty.Blob) - others; n <= len(p.Faults()) || strings.Contains(res.stderr, "damaged") {
			t.Errorf("took a faulty answer for good: %d requests for the layer, faults %q\n%s", n, p.Faults(), res.stderr)
		}
	}
	size := int64(len(big.packed))
	limit := size + size/10 + tc.thrown.bytes
	switch {
	case tc.code != 0:
		limit = 3*size + buffered.bytes
	case tc.thrown == before && args != nil:
		limit += 2 << 20 // what was on the way to the other connections
	case tc.thrown == theBlob:
		limit = 2*size + size/10
		if tc.refuse && args != nil {
			limit += 8 << 20 // what was on the way to the other connections, a chunk each
		}
	}
	if sent := p.Sent(big.digest.String()); sent > limit && tc.code != 1 {
		t.Errorf("the registry sent %d bytes of a blob of %d, want %d at most: %q", sent, size, limit, p.Faults())
	}
	if res.code != 0 {
		if left := names(t, filepath.Dir(rootfs)); len(left) > 0 {
			t.Errorf("left of a pull that failed: %q", left)
		}
		return
	}
	expectSame(t, "not what was pushed", compareTrees(t, rootfs, good, treeOptions{madeUp: begun}))
}

// TestRandomFaults has anything go wrong at any time. Every pull ends, and what
// succeeds is right to the last bit.
func TestRandomFaults(t *testing.T) {
	begun := time.Now()
	seed := *faultSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	reg := startRegistry(t, registryOptions{})
	im := makeImage(t, imageSpec{layers: []layer{
		noiseLayer(t, sharedSize, 3), noiseLayer(t, 600<<10, 1), noiseLayer(t, 300<<10, 2), smallLayer(t, "word", "small")}})
	good := filepath.Join(t.TempDir(), "rootfs")
	fastpull(t, "--rootfs", good, reg.push(t, "img:tag", im)).expect(t, 0)

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
				p := startFaulty(t, reg, o)
				rootfs := filepath.Join(t.TempDir(), "rootfs")
				res := faultyPull(t, p, o, rootfs, "img:tag", runDeadline, "--chunk-size=1MiB")
				mu.Lock()
				ends[res.code]++
				mu.Unlock()
				story := fmt.Sprintf("-faults.seed=%d, pull %d: %q\n%s", seed, i, p.Faults(), res.stderr)
				switch res.code {
				case 0:
					expectSame(t, "not what was pushed: "+story, compareTrees(t, rootfs, good, treeOptions{madeUp: begun}))
				case 1, 4, 5:
					if left := names(t, filepath.Dir(rootfs)); len(left) > 0 {
						t.Errorf("left of a pull that failed: %q\n%s", left, story)
					}
				default:
					t.Errorf("exit code %d after %v\n%s", res.code, res.took, story)
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
	const path = "../docs/faults.md"
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
		t.Errorf("%s is not what is tested; write it by: go test -tags e2e ./e2e -run TestFaultsTable -faults.update", path)
	}
}
