package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// TestForeign opens what is there in place of a file.
func TestForeign(t *testing.T) {
	dir := t.TempDir()
	name := func(s string) string { return filepath.Join(dir, s) }
	err := errors.Join(
		os.WriteFile(name("file"), []byte("text"), 0o600),
		os.Symlink("file", name("link")),
		unix.Mkfifo(name("pipe"), 0o600),
		os.WriteFile(name("large"), nil, 0o600),
		os.Truncate(name("large"), 1<<40),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"file", "link"} {
		if text, err := readRegular(name(file)); string(text) != "text" || err != nil {
			t.Errorf("%s: %q, %v", file, text, err)
		}
	}
	for file, want := range map[string]error{"pipe": unix.EINVAL, ".": unix.EINVAL, "none": os.ErrNotExist, "large": unix.EFBIG} {
		if text, err := readRegular(name(file)); len(text) > fewBytesOf+1 || !errors.Is(err, want) {
			t.Errorf("%s: %d bytes, %v; want %v", file, len(text), err, want)
		}
	}
	if text, err := readSome(name("large")); len(text) != fewBytesOf || err != nil {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

// TestHostileLayer has a pipe in each place where an Engine would have a file.
func TestHostileLayer(t *testing.T) {
	p := newFakeProc(t)
	in := tree(t, map[string]string{"d/overlay2/own/x": "", "etc/docker/x": "", "bin/x": ""})
	for _, file := range []string{"d/overlay2/own/lower", "etc/docker/daemon.json", "bin/unpigz"} {
		if err := unix.Mkfifo(filepath.Join(string(in), file), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	p.add(10, 1, 10, "dockerd", "dockerd", "-H", "unix:///none")
	p.link("10/root", string(in))
	p.add(11, 10, 10, "exe", "docker-untar", "/", "/d/overlay2/own/diff")
	all, err := p.all()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if l := p.layerOf(all[11], all[10]); l.dir != "/d/overlay2/own/diff" || l.number != 0 {
			t.Errorf("%+v", l)
		}
		e := &exam{Options: Options{proc: string(p.procfs)}}
		if _, err := e.liveRestore(t.Context(), all[10]); err == nil {
			t.Error("a pipe tells of live-restore")
		}
		if r := (&sandbox{root: in}).trial(t.Context(), "/bin/unpigz", nil); r.outcome != cannotRun {
			t.Errorf("%+v", r)
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it waits for ever")
	}
}

// TestEnded: examinations go on after their caller has stopped waiting.
func TestEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		e := &exam{report: &Report{}, ended: ctx.Done()}
		hang := make(chan struct{})
		e.aside(ctx, Stuck, func(_ context.Context, e *exam) {
			e.found(Finding{Area: Stuck, Text: "in time"})
			cancel()
			e.found(Finding{Area: Stuck, Text: "too late"})
			<-hang
		})()
		e.found(Finding{Area: Host, Text: "too late, too"})
		if list := e.report.Findings; len(list) != 1 || list[0].Text != "in time" {
			t.Errorf("%+v", list)
		}
		close(hang)
	})
	ctx, cancel := context.WithCancel(t.Context())
	report, err := Run(ctx, Options{proc: t.TempDir(), Found: func(Finding) { cancel() }})
	if !errors.Is(err, context.Canceled) || !report.Incomplete || slices.ContainsFunc(report.Findings, func(f Finding) bool { return f.Area != Stuck && f.Area != Decompressors }) {
		t.Errorf("%v, %+v", err, report)
	}
}

// TestAside has a look hang after its first finding.
func TestAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &exam{report: &Report{}}
		hang := make(chan struct{})
		begun := time.Now()
		e.aside(t.Context(), Stuck, func(_ context.Context, e *exam) {
			e.found(Finding{Area: Stuck, Text: "first"})
			<-hang
			e.found(Finding{Area: Stuck, Text: "too late"})
		})()
		list := e.report.Findings
		if len(list) != 2 || list[0].Text != "first" || list[1].Level != Unknown || !strings.Contains(list[1].Text, "does not answer") {
			t.Errorf("%+v", list)
		}
		if took := time.Since(begun); took != processesTime+processesMore {
			t.Errorf("it took %v", took)
		}
		close(hang)
	})
}
