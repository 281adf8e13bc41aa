package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
