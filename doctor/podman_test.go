package doctor

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestOurs brings an image to where an Engine has its own.
func TestOurs(t *testing.T) {
	p := newFakeProc(t)
	p.add(10, 1, 1, "dockerd", "dockerd")
	p.add(20, 1, 1, "podman", "podman", "--root", "/images", "pull", "reg/img")
	p.add(21, 1, 1, "buildah", "buildah", "pull", "reg/img")
	p.add(30, 1, 1, "crio", "crio")
	p.link("30/root", string(tree(t, map[string]string{
		"etc/crio/crio.conf":        "[crio]\nroot = \"/first\"\n[crio.api]\nlisten = \"/run/crio/crio.sock\"\n",
		"etc/crio/crio.conf.d/10":   "[crio]\nroot = \"/last\"\n",
		"etc/crio/crio.conf.d/20":   "[crio.runtime]\nx = 1\n",
		"etc/crio/crio.conf.d/30":   "this is [ no configuration",
		"etc/elsewhere/crio.conf":   "[crio]\nroot = \"/named\"\n",
		"etc/elsewhere/none/.empty": "",
	})))
	p.add(31, 1, 1, "crio", "crio", "--root=/flag")
	p.add(32, 1, 1, "crio", "crio", "--config", "/etc/elsewhere/crio.conf", "--config-dir", "/etc/elsewhere/none")
	p.link("32/root", readlink(t, p.file(30, "root")))
	p.add(33, 1, 1, "crio", "crio")
	p.link("33/root", t.TempDir())
	all, err := p.all()
	if err != nil {
		t.Fatal(err)
	}
	e := &exam{Options: Options{proc: string(p.procfs)}, report: &Report{}}
	unshare := ""
	if os.Geteuid() != 0 { // whose the processes are here
		unshare = "podman unshare "
	}
	for pid, want := range map[int]string{
		10: "fastpull", 20: unshare + "fastpull --podman=/images", 21: unshare + "fastpull --podman",
		30: unshare + "fastpull --podman=/last", 31: unshare + "fastpull --podman=/flag", 32: unshare + "fastpull --podman=/named",
		33: unshare + "fastpull --podman",
	} {
		if got := e.ours(all[pid].comm, all[pid]); got != want {
			t.Errorf("%v: %s, want %s", all[pid].args, got, want)
		}
	}
	if got := e.ours("podman", nil); got != "fastpull --podman" {
		t.Errorf("a podman that does not run: %s", got)
	}
	if f, found := e.crio(t.Context()); !found || !strings.Contains(f.Text, "fastpull --podman=") {
		t.Errorf("%+v, %v", f, found)
	}
}

// TestPodmanJobs finds what Podman and its relatives have started, and what they have left.
func TestPodmanJobs(t *testing.T) {
	p := newFakeProc(t)
	p.add(1, 0, 1, "systemd", "/sbin/init")
	p.add(10, 1, 10, "podman", "podman", "pull", "reg/img")
	p.add(11, 10, 20, "pigz", "pigz", "-d")
	p.add(12, 10, 21, "exe", "storage-untar", "/")
	p.add(20, 1, 10, "crio", "crio")
	p.add(21, 20, 30, "pigz", "pigz", "-d")
	p.add(30, 1, 10, "skopeo", "skopeo", "copy", "docker://reg/img", "containers-storage:img")
	p.add(31, 30, 40, "pigz", "pigz", "-d")
	p.add(40, 10, 50, "conmon", "conmon") // a container's
	p.add(41, 40, 50, "pigz", "pigz", "-d")
	p.add(50, 1, 60, "pigz", "pigz", "-d") // its podman was killed
	p.add(51, 1, 60, "pigz", "pigz", "-d", "file")
	all, err := p.all()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	jobs := jobsOf(all)
	for _, j := range jobs {
		of := "nobody"
		if j.engine != nil {
			of = j.engine.String()
		}
		got = append(got, j.String()+" of "+of)
	}
	want := []string{"pigz 11 of podman 10", "storage-untar 12 of podman 10", "pigz 21 of crio 20", "pigz 31 of skopeo 30", "pigz 50 of nobody"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if names := p.pulls(all, all[10]); !slices.Equal(names, []string{"reg/img"}) {
		t.Errorf("podman pulls %q", names)
	}
	if u := pair(jobs)[jobs[0]]; u == nil || u.pid != 12 {
		t.Errorf("pigz 11 is with %v", u)
	}
}
