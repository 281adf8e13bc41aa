//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
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
var faultLimits = []string{"--stall-timeout=1s", "--retries=3", "--min-rate=20000"}

// helpText is what the program says of its flags.
var helpText = sync.OnceValues(func() (string, error) {
	said, err := exec.Command(programs.fastpull, "--help").CombinedOutput()
	return string(said), err
})

// has reports whether the program has a flag.
func has(t *testing.T, flag string) bool {
	t.Helper()
	said, err := helpText()
	if err != nil {
		t.Fatalf("fastpull --help: %v\n%s", err, said)
	}
	return strings.Contains(said, flag+" ")
}

// startFaulty puts a proxy before r that ends with the test.
func startFaulty(t *testing.T, r *registry, o faulty.Options) *faulty.Proxy {
	t.Helper()
	o.Registry = r.scheme + "://" + r.addr
	p, err := faulty.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// faultyPull pulls repository img:tag through a proxy into a plain directory,
// and ends what takes too long.
func faultyPull(t *testing.T, p *faulty.Proxy, o faulty.Options, rootfs string, atMost time.Duration) result {
	t.Helper()
	args := []string{"--rootfs", rootfs, "--no-sync", p.Addr + "/img:tag"}
	for _, f := range faultLimits {
		if name, _, _ := strings.Cut(f, "="); has(t, name) {
			args = append(args, f)
		}
	}
	if !o.TLS {
		args = append(args, "--plain-http")
	}
	r := newUser(t).start(t, args...)
	defer time.AfterFunc(atMost, func() { r.cmd.Process.Kill() }).Stop()
	return r.wait(t)
}

// TestFaults has one thing go wrong at a time, over HTTP/1.1 and HTTP/2.
func TestFaults(t *testing.T) {
	begun := time.Now()
	reg := startRegistry(t, registryOptions{})
	// One layer: a port that is closed would hit others at a moment of chance.
	im := makeImage(t, imageSpec{layers: []layer{noiseLayer(t, faultySize, 1)}})
	good := filepath.Join(t.TempDir(), "rootfs")
	fastpull(t, "--rootfs", good, reg.push(t, "img:tag", im)).expect(t, 0)

	for _, tc := range faultCases() {
		for _, h2 := range []bool{false, true} {
			t.Run(strings.ReplaceAll(tc.name, " ", "-")+map[bool]string{false: "/1", true: "/2"}[h2], func(t *testing.T) {
				t.Parallel()
				if tc.needs != "" && !has(t, tc.needs) {
					return // docs/faults.md says so
				}
				problems := tc.run(t, reg, im, h2, good, begun)
				switch {
				case tc.today == "":
					for _, p := range problems {
						t.Error(p)
					}
				case len(problems) == 0:
					t.Error("is as it should be: take out what happens today")
				}
			})
		}
	}
}

// run returns what is not as it should be.
func (tc faultCase) run(t *testing.T, reg *registry, im image, h2 bool, good string, begun time.Time) (problems []string) {
	t.Helper()
	big := im.layers[0]
	rules := slices.Clone(tc.rules)
	for i, r := range rules {
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
	res := faultyPull(t, p, o, rootfs, atMost)

	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if res.code != tc.code {
		problem("exit code %d after %v, want %d\nstderr:\n%s", res.code, res.took, tc.code, res.stderr)
	}
	for _, words := range tc.says {
		if !strings.Contains(strings.ToLower(res.stderr), strings.ToLower(words)) {
			problem("does not say %q\n%s", words, res.stderr)
		}
	}
	if len(p.Faults()) < len(tc.rules) {
		problem("of %d faults only these were met: %q", len(tc.rules), p.Faults())
	}
	if tc.refuse {
		const others = 1 // the config
		if n := p.Requests(faulty.Blob) - others; n <= len(p.Faults()) || strings.Contains(res.stderr, "damaged") {
			problem("took a faulty answer for good: %d requests for the layer, faults %q\n%s", n, p.Faults(), res.stderr)
		}
	}
	// Buffers between a body without an end and who leaves it hold some megabytes.
	size := int64(len(big.packed))
	limit := size + size/10 + tc.thrown.bytes
	if tc.code != 0 {
		limit = 3*size + 16<<20
	}
	if sent := p.Sent(big.digest.String()); sent > limit && tc.code != 1 {
		problem("the registry sent %d bytes of a blob of %d, want %d at most: %q", sent, size, limit, p.Faults())
	}
	if res.code != 0 {
		if left := names(t, filepath.Dir(rootfs)); len(left) > 0 {
			problem("left of a pull that failed: %q", left)
		}
		return problems
	}
	return append(problems, compareTrees(t, rootfs, good, treeOptions{madeUp: begun})...)
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
		noiseLayer(t, 600<<10, 1), noiseLayer(t, 300<<10, 2), smallLayer(t, "word", "small")}})
	good := filepath.Join(t.TempDir(), "rootfs")
	fastpull(t, "--rootfs", good, reg.push(t, "img:tag", im)).expect(t, 0)

	var mu sync.Mutex
	ends := map[int]int{}
	t.Run("pulls", func(t *testing.T) {
		for i := range *faultPulls {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				o := faulty.Options{
					Script:   faulty.Random(seed+uint64(i), 0.25, 600<<10, has(t, "--stall-timeout") && has(t, "--min-rate")),
					Redirect: i&1 != 0, TLS: i&2 != 0, HTTP2: i&2 != 0,
				}
				if i&4 != 0 {
					o.TokenLife = time.Hour
				}
				p := startFaulty(t, reg, o)
				rootfs := filepath.Join(t.TempDir(), "rootfs")
				res := faultyPull(t, p, o, rootfs, runDeadline)
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
		if tc.today != "" {
			outcome += "; not yet: " + tc.today
		}
		if tc.needs != "" && !has(t, tc.needs) {
			outcome += "; not yet: there is no `" + tc.needs + "`"
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
