package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/internal/sample"
)

func TestAccessLog(t *testing.T) {
	const text = `time="2026-11-23T15:54:17Z" level=warning msg="GET /v2/a/manifests/x"
127.0.0.1 - - [23/Nov/2026:15:54:17 +0000] "HEAD /v2/a/manifests/1 HTTP/1.1" 200 700 "" "x"
127.0.0.1 - - [23/Nov/2026:15:54:17 +0000] "GET /v2/a/manifests/1 HTTP/1.1" 404 700 "" "x"
127.0.0.1 - ali [23/Nov/2026:15:54:17 +0000] "GET /v2/a/blobs/sha256:12 HTTP/1.1" 206 40 "" "x \"y\""
127.0.0.1 - - [23/Nov/2026:15:54:18 +0000] "PUT /v2/a/blobs/uploads/ HTTP/1.1" 201 9 "" ""
127.0.0.1 - - [23/Nov/2026:15:54:18 +0000] "GET /v2/?mark=1 HTTP/1.1" 200 2 "" ""
`
	for _, chunk := range []int{1, 7, len(text)} {
		var l accessLog
		seen := l.expect("/v2/?mark=1")
		for rest := text; rest != ""; {
			n := min(chunk, len(rest))
			l.Write([]byte(rest[:n]))
			rest = rest[n:]
			select {
			case <-seen:
				if rest != "" {
					t.Errorf("the mark was seen before it came")
				}
			default:
				if rest == "" {
					t.Errorf("the mark was not seen")
				}
			}
		}
		if got, want := l.take(), (requests{Manifests: 2, Blobs: 1}); got != want {
			t.Errorf("by %d bytes: %+v, want %+v", chunk, got, want)
		}
		if got := l.take(); got != (requests{}) {
			t.Errorf("by %d bytes: %+v are left", chunk, got)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{4, 1}, spread{1, 2.5, 4}},
		{[]float64{9, 1, 2}, spread{1, 2, 9}},
	} {
		if got := spreadOf(c.in); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.in, got, c.want)
		}
	}
}

// held is a contest with made-up figures.
func held() *contest {
	img := &testImage{Name: multi, ID: "sha256:0123456789abcdef", Stats: sample.Stats{Layers: 5, Entries: 70000, Plain: 23e8, Compressed: 92e7}}
	return &contest{
		name: "store/multi", metric: wallTime,
		entrants: []entrant{{name: "fastpull", image: img}, {name: "docker pull", image: img}},
		rounds: [][]figures{
			{{Wall: 10, Peak: 100 << 20, Requests: requests{1, 6}}, {Wall: 30, Flush: 2, Peak: 80 << 20}},
			{{Wall: 8, Peak: 120 << 20, Requests: requests{1, 6}}, {Wall: 32, Flush: 4, Peak: 80 << 20}},
		},
	}
}

func TestRatios(t *testing.T) {
	r := held().ratios()
	if len(r) != 1 || r[0].Of != "docker pull" || r[0].To != "fastpull" || math.Abs(r[0].Medians-31.0/9) > 1e-9 ||
		len(r[0].Pairs) != 2 || r[0].Pairs[0] != 3 || r[0].Pairs[1] != 4 {
		t.Errorf("%+v", r)
	}
	if math.Abs(r[0].Flushed-34.0/9) > 1e-9 {
		t.Errorf("with the flush: %g", r[0].Flushed)
	}
	size := held()
	size.metric = peakSize
	if r := size.ratios(); r[0].Flushed != 0 {
		t.Errorf("a contest about memory: %+v", r)
	}
	if r := (&contest{entrants: held().entrants, metric: wallTime}).ratios(); len(r) != 0 {
		t.Errorf("without a round: %+v", r)
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	if err := held().printTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		"store/multi, wall time; rounds: 2\n",
		"multi: 5 layers, 0.920 GB compressed, 2.300 GB plain, 70000 entries, image ID sha256:0123456789ab\n",
		"8.00 / 9.00 / 10.00 ", "100 / 110 / 120 ", " 80  ",
		"wall time of docker pull is 3.44 times that of fastpull; by rounds: 3.00 4.00; with the flush: 3.78\n",
	} {
		if !strings.Contains(out.String(), s) {
			t.Errorf("%q is not in the table:\n%s", s, out.String())
		}
	}
	if n := strings.Count(out.String(), "5 layers"); n != 1 {
		t.Errorf("the image is described %d times", n)
	}
}

func TestJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.json")
	empty := held()
	empty.rounds = nil
	if err := writeJSON(file, []*contest{held(), empty}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Contests) != 2 || r.Contests[0].Entrants[1].Metric.Median != 31 || r.Contests[0].Entrants[0].Rounds[1].Wall != 8 ||
		r.Contests[0].Entrants[0].Image.Stats.Entries != 70000 || r.Contests[1].Entrants[0].Metric != nil {
		t.Errorf("%s", text)
	}
}

func TestContent(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	c, err := givenContent(a + "," + b)
	if err != nil {
		t.Fatal(err)
	}
	if l := c.layers(multi); len(l) != 2 || l[1].Trees[0].Path != b || l[1].Trees[0].As != b {
		t.Errorf("multi: %+v", l)
	}
	if l := c.layers(one); len(l) != 1 || len(l[0].Trees) != 2 {
		t.Errorf("one: %+v", l)
	}
	if l := c.layers(double); len(l) != 2 || l[0].Trees[0].As != "again"+a {
		t.Errorf("double: %+v", l)
	}
	other, err := givenContent(b + "," + a)
	if err != nil || other.tag(multi) == c.tag(multi) || c.tag(one) == c.tag(multi) {
		t.Errorf("tags %s %s %s, %v", c.tag(one), c.tag(multi), other.tag(multi), err)
	}
	for _, bad := range []string{"", "relative", "/no/such", a + ","} {
		if _, err := givenContent(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	e := content{groups: [][]string{{"/no/such", a}, {"/no/such"}}, single: []string{"/no/such", b}}.existing()
	if len(e.groups) != 1 || len(e.groups[0]) != 1 || len(e.single) != 1 {
		t.Errorf("existing: %+v", e)
	}
	d, err := defaultContent(t.Context())
	if err != nil || len(d.groups) < 3 || len(d.single) < 2 {
		t.Errorf("default: %+v, %v", d, err)
	}
}

func TestBuilds(t *testing.T) {
	list, err := builds("/bin/sh")
	if err != nil || len(list) != 1 || list[0].name != "fastpull" || list[0].program != "/bin/sh" {
		t.Errorf("%+v, %v", list, err)
	}
	list, err = builds("sh,/bin/sh")
	if err != nil || len(list) != 2 || list[0].name != "sh" || !filepath.IsAbs(list[0].program) || list[1].name != "/bin/sh" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := builds("sh,/no/such"); err == nil {
		t.Error("one that is not there was taken")
	}
}

func TestEnoughMemory(t *testing.T) {
	if err := enoughMemory(subject{}); err != nil {
		t.Error(err)
	}
	if err := enoughMemory(subject{size: 1 << 50}); err == nil {
		t.Error("an image of a petabyte fits")
	}
}

func TestWrongUse(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-help"}, 0, "-against"},
		{[]string{"-nonsense"}, 2, "nonsense"},
		{[]string{"store"}, 2, `what is "store"?`},
		{[]string{"-run", "("}, 2, "-run: error parsing"},
		{[]string{"-run", "nothing"}, 2, "there are store/multi"},
		{[]string{"-syscalls", "-run", "store"}, 2, "-run store: there are files/share, files/go"},
		{[]string{"-syscalls", "-json", "x"}, 2, "nothing for -json"},
		{[]string{"-scale", "0"}, 2, "-scale 0: it has to be"},
		{[]string{"-n", "0"}, 2, "there has to be a round"},
		{[]string{"-against", "buildah"}, 2, "there are docker, containerd, podman, tar, go-archive, umoci, skopeo, crane, "},
	} {
		var out bytes.Buffer
		if code := run(t.Context(), c.args, &out, &out); code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("%q: exit code %d, want %d and %q:\n%s", c.args, code, c.code, c.says, out.String())
		}
	}
}

func TestCacheIsForOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	first, err := new(bench).lockCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := new(bench).lockCache(dir); err == nil || !strings.Contains(err.Error(), "another benchmark") {
		t.Errorf("the second: %v", err)
	}
	first.Close()
	again, err := new(bench).lockCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestTurnThatFails(t *testing.T) {
	if err := expectID(&testImage{Name: "x", ID: "sha256:1"}, "sha256:2"); err == nil {
		t.Error("another image was taken for the right one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := &bench{rounds: 1, temp: t.TempDir(), source: &source{}}
	c := held()
	if err := b.hold(ctx, c); err == nil || len(c.rounds) != 2 {
		t.Errorf("after the end of the context: %v, %d rounds", err, len(c.rounds))
	}
}
