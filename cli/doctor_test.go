package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/doctor"
)

func TestWriteDropIns(t *testing.T) {
	root := t.TempDir()
	d := &doctor.DropIn{Unit: "docker.service", Path: "/etc/systemd/system/docker.service.d/fastpull-pigz.conf", Text: "[Service]\n"}
	bad := &doctor.DropIn{Unit: "x.service", Path: "/etc/systemd/system/x.service.d/fastpull-pigz.conf", Text: "[Service]\n"}
	r := &doctor.Report{Findings: []doctor.Finding{{DropIn: bad}, {DropIn: d}}}
	if err := os.MkdirAll(filepath.Join(root, bad.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeDropIns(&out, root, r); err == nil || !strings.Contains(err.Error(), "x.service") {
		t.Errorf("a file that cannot be written: %v", err)
	}
	for _, want := range []string{"wrote " + d.Path, "nothing was restarted", "systemctl daemon-reload && systemctl restart docker"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q: %s", want, &out)
		}
	}
	if got, err := os.ReadFile(filepath.Join(root, d.Path)); err != nil || string(got) != d.Text {
		t.Errorf("%q, %v", got, err)
	}
	out.Reset()
	if err := writeDropIns(&out, root, &doctor.Report{Findings: []doctor.Finding{{DropIn: d}}}); err != nil || !strings.Contains(out.String(), "is there already") {
		t.Errorf("once more: %v, %s", err, &out)
	}
	out.Reset()
	if err := writeDropIns(&out, root, &doctor.Report{}); err != nil || !strings.Contains(out.String(), "no drop-in was written") {
		t.Errorf("without a problem: %v, %s", err, &out)
	}
}

// The way out that needs root says all that was said, and nothing that was not.
func TestCommandAgain(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{
		"":           "",
		"host/img:1": "host/img:1",
		"--ca a.crt --plain-http host/img --ca b.crt": "--ca=a.crt --ca=b.crt --plain-http host/img",
		"--report f --store d --json=false host:5000": "--json=false --report=f --store=d host:5000",
	} {
		root := newRoot(Streams{Out: io.Discard, Err: io.Discard})
		cmd, rest, err := root.Find(append([]string{"doctor"}, strings.Fields(given)...))
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err != nil {
			t.Fatal(err)
		}
		got := commandAgain(cmd, cmd.Flags().Args())
		slices.Sort(got[2 : len(got)-cmd.Flags().NArg()])
		if all := append([]string{program, "doctor"}, strings.Fields(want)...); !slices.Equal(got, all) {
			t.Errorf("%q: %q, want %q", given, got, all)
		}
	}
}

// cancelling is a terminal at which somebody loses patience at the first word.
type cancelling struct {
	bytes.Buffer
	cancel func()
}

func (c *cancelling) Write(p []byte) (int, error) {
	c.cancel()
	return c.Buffer.Write(p)
}

func TestDoctorInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out, errs := &cancelling{cancel: cancel}, bytes.Buffer{}
	file := filepath.Join(t.TempDir(), "report")
	if code := Main(ctx, []string{"doctor", "--report", file}, Streams{Out: out, Err: &errs}); code != interrupted {
		t.Errorf("exit code %d", code)
	}
	got, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(got), "STUCK NOW\n  ") || !strings.Contains(string(got), "\nINCOMPLETE: interrupted") || strings.Contains(string(got), "\nHOST") {
		t.Errorf("%s, %v", got, err)
	}
	if !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("it says %s", &errs)
	}

	// The folder of the report is gone when there is one.
	ctx, cancel = context.WithCancel(t.Context())
	folder := t.TempDir()
	out, errs = &cancelling{cancel: func() { cancel(); os.Remove(folder) }}, bytes.Buffer{}
	if code := Main(ctx, []string{"doctor", "--report", filepath.Join(folder, "x")}, Streams{Out: out, Err: &errs}); code != interrupted || !strings.Contains(errs.String(), "write the report "+folder) {
		t.Errorf("exit code %d, it says %s", code, &errs)
	}

	// A place that is none is found out before anything is examined.
	out, errs = &cancelling{cancel: func() {}}, bytes.Buffer{}
	if code := Main(t.Context(), []string{"doctor", "--report", filepath.Join(file, "x")}, Streams{Out: out, Err: &errs}); code != 1 || out.Len() > 0 || !strings.Contains(errs.String(), "write the report "+file) {
		t.Errorf("exit code %d, it says %s%s", code, &errs, out)
	}

	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	out = &cancelling{cancel: cancel}
	if code := Main(ctx, []string{"doctor", "--json"}, Streams{Out: out, Err: io.Discard}); code != interrupted || !strings.Contains(out.String(), `"incomplete": true`) {
		t.Errorf("exit code %d, JSON %s", code, out)
	}
}

func TestWriteReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report")
	r := &doctor.Report{Version: "1.2", Platform: "linux/arm64", Time: time.Unix(0, 0), Findings: []doctor.Finding{{Area: doctor.Host, What: "clock", Level: doctor.Unknown, Text: "not set"}}}
	for range 2 { // the second one replaces the first
		place, err := reportPlace(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeReport(place, r); err != nil {
			t.Fatal(err)
		}
		place.Close()
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(text), "fastpull 1.2 on linux/arm64, 1970-01-01T00:00:00Z\n\nHOST\n") || !strings.HasSuffix(string(text), "looked at\n") {
		t.Errorf("%v\n%s", err, text)
	}
	for _, name := range []string{filepath.Join(file, "none"), filepath.Dir(file), "/dev/null"} {
		if place, err := reportPlace(name); err == nil {
			place.Close()
			t.Errorf("%s is a place for a report", name)
		}
	}
}
