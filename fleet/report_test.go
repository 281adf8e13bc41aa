package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/pull"
)

// summary is that of a run with one image of each kind.
func summary() *pull.Summary {
	return &pull.Summary{
		Destination: "store /srv", BytesFetched: 7, Seconds: 1.5,
		Images: []pull.Result{
			{Reference: "h/a:1", Digest: "sha256:aa", Status: pull.Pulled, BytesFetched: 7},
			{Reference: "h/b:1", Digest: "sha256:bb", Status: pull.Exists},
			{Reference: "h/c:1", Status: pull.Failed, Error: "h/c:1: not found"},
		},
	}
}

var begun = time.Date(2026, 5, 6, 7, 8, 9, 123456789, time.FixedZone("", 3600))

func TestNewLine(t *testing.T) {
	failure := fault.New(fault.Denied, "no \x1b[2J")
	for _, tc := range []struct {
		err         error
		interrupted bool
		want        string
	}{
		{nil, true, `"result":"done","exitCode":0,"destination":"store /srv"`},
		{failure, false, `"result":"failed","exitCode":4,"error":"no \u001b[2J","destination":"store /srv"`},
		{failure, true, `"result":"interrupted","exitCode":130,"error":`},
	} {
		var b bytes.Buffer
		if err := (Report{Out: &b}).Append(NewLine(begun, summary(), tc.err, tc.interrupted)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), `{"started":"2026-05-06T06:08:09.123Z",`+tc.want) || strings.Count(b.String(), "\n") != 1 {
			t.Errorf("%v, interrupted %v: %s", tc.err, tc.interrupted, b.String())
		}
	}
	if l := NewLine(time.Now().Add(-time.Minute), nil, failure, false); l.Images == nil || l.Seconds < 60 {
		t.Errorf("of a run without images: %+v", l.Summary)
	}
}

// TestLineHasSummary has each field of the summary in the line, under the name that --json
// has for it.
func TestLineHasSummary(t *testing.T) {
	fields := func(v any) map[string]any {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		all := make(map[string]any)
		if err := json.Unmarshal(data, &all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	sum := summary()
	line := fields(NewLine(begun, sum, errors.New("x"), false))
	for name, value := range fields(sum) {
		if got, want := mustJSON(t, line[name]), mustJSON(t, value); got != want {
			t.Errorf("%s is %s in the line, and %s in the summary", name, got, want)
		}
		delete(line, name)
	}
	var own []string
	for name := range line {
		own = append(own, name)
	}
	if slices.Sort(own); !slices.Equal(own, []string{"error", "exitCode", "result", "started"}) {
		t.Errorf("fields beside those of the summary: %q", own)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestReportIsAppended has several processes' worth of writers at one file, which is moved
// away in between, and a line that was cut off.
func TestReportIsAppended(t *testing.T) {
	name := filepath.Join(t.TempDir(), "report")
	r := Report{Name: name}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	var g sync.WaitGroup
	const lines = 200
	for range lines {
		g.Go(func() {
			if err := r.Append(NewLine(begun, summary(), nil, false)); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if n := countLines(t, name, true); n != lines {
		t.Errorf("%d lines of %d", n, lines)
	}
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(`{"started":"20`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Append(NewLine(begun, summary(), nil, false)); err != nil {
		t.Fatal(err)
	}
	if n := countLines(t, name, false); n != 1 {
		t.Errorf("%d whole lines after one that was cut off", n)
	}
}

// countLines counts the lines that are whole; all of them have to be if strict is set.
func countLines(t *testing.T, name string, strict bool) (n int) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if json.Valid([]byte(line)) {
			n++
		} else if strict {
			t.Errorf("no JSON: %s", line)
		}
	}
	return n
}

func TestReportIsRefused(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	planted := filepath.Join(dir, "shared/report")
	if err := errors.Join(os.Mkdir(filepath.Dir(planted), 0o777), os.Chmod(filepath.Dir(planted), 0o777), os.WriteFile(planted, nil, 0o644), os.Link(planted, planted+"-too")); err != nil {
		t.Fatal(err)
	}
	for name, kind := range map[string]fault.Kind{
		planted: fault.Denied,
		pipe:    fault.Usage, "/dev/null": fault.Usage, dir: fault.Failed, filepath.Join(dir, "none/report"): fault.NotFound,
	} {
		r := Report{Name: name}
		if err := r.Check(); fault.KindOf(err) != kind || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.Append(NewLine(begun, nil, nil, false)); fault.KindOf(err) != kind {
			t.Errorf("append to %s: %v", name, err)
		}
	}
	if err := (Report{}).Append(NewLine(begun, nil, nil, false)); err != nil {
		t.Error(err)
	}
}
