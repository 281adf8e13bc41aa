package containerdroot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/containerdfiles"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/checkup"
	"github.com/fastpull/fastpull/internal/privilege"
)

// TestCheck says of a root, and of a data-root, if images can be put there.
func TestCheck(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	trusted := &destination.Machine{Rights: privilege.Process{Trusted: true}}
	expect := func(name string, list []checkup.Finding, level checkup.Level, words string) {
		t.Helper()
		if len(list) != 1 || list[0].Level != level || !strings.Contains(list[0].Text, words) {
			t.Errorf("%s: %+v, want %v with %q", name, list, level, words)
		}
	}
	if list := append(Check(ctx, trusted, ""), CheckDocker(ctx, trusted, "")...); len(list) > 0 {
		t.Errorf("without a directory: %+v", list)
	}
	root := inDataRoot(dir)
	expect("none", CheckDocker(ctx, trusted, dir), checkup.OK, "could be made")
	expect("without rights", Check(ctx, new(destination.Machine), root), checkup.Warning, "SYS_ADMIN")
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("a check has made %v, %v", names, err)
	}

	r, err := containerdfiles.Open(ctx, root, containerdfiles.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.In("default").Snapshots().Prepare(ctx, "key", "", nil); err != nil {
		t.Fatal(err)
	}
	expect("in use", Check(ctx, trusted, root), checkup.Problem, "has it open; stop it first")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	expect("a root", Check(ctx, trusted, root), checkup.OK, "takes images")
	if err := os.MkdirAll(filepath.Join(dir, "overlay2/l"), 0o700); err != nil {
		t.Fatal(err)
	}
	expect("with overlay2", CheckDocker(ctx, trusted, dir), checkup.Problem, "overlay2")
}

// TestDockerRuns: a dockerd on the host's containerd has its data-root locked, and not the root of
// containerd in it. Nothing is written there.
func TestDockerRuns(t *testing.T) {
	dir := t.TempDir()
	db := filepath.Join(dir, "volumes/metadata.db")
	if err := os.Mkdir(filepath.Dir(db), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(db)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	env := &destination.Env{Rights: privilege.Process{Trusted: true}, NoSync: true}
	_, err = OpenDocker(t.Context(), env, dir, Options{})
	if err == nil || !strings.Contains(err.Error(), "is running (it holds volumes/metadata.db)") || !strings.Contains(fault.HintOf(err), "stop it first") {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	if list := CheckDocker(t.Context(), &destination.Machine{Rights: env.Rights}, dir); len(list) != 1 || list[0].Level != checkup.Problem {
		t.Errorf("a check says %+v", list)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("there is %v, %v", names, err)
	}
	f.Close()
	if err := fits(dir); err != nil {
		t.Errorf("stopped: %v", err)
	}
}

// TestInUse: a root that another fastpull fills is not one to be stopped.
func TestInUse(t *testing.T) {
	for name, want := range map[string]string{"containerd": "stop it first", "fastpull": "wait until that pull has ended"} {
		err := explain(&containerdfiles.InUse{Pid: 7, Name: name})
		if hint := fault.HintOf(err); !strings.HasPrefix(hint, want) {
			t.Errorf("%s: %q", name, hint)
		}
	}
}
