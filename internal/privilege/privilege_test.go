package privilege

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/need"
)

// asChild is set where the test binary runs itself again, as another user, to
// print what it is. "no proc" hides /proc first.
const asChild = "PRIVILEGE_TEST_CHILD"

// view is what a child says.
type view struct {
	Level   Level
	Trusted bool
	Caps    string // those of [names] that it has
	Works   bool   // trusted.* on a file on disk, in truth
}

func TestMain(m *testing.M) {
	if how := os.Getenv(asChild); how != "" {
		if err := look(how); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(need.RootMain("become other users", m.Run))
}

func look(how string) error {
	if how == "no proc" {
		if err := unix.Mount("none", "/proc", "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("hide /proc: %w", err)
		}
	}
	p := Current()
	v := view{Level: p.Level, Trusted: p.Trusted}
	for _, c := range []Capability{Chown, DACOverride, Fowner, Fsetid, Setfcap, Mknod, SysAdmin} {
		if p.Has(c) {
			v.Caps += strings.TrimPrefix(c.String(), "CAP_") + " "
		}
	}
	file, err := os.CreateTemp(".", "")
	if err != nil {
		return err
	}
	defer file.Close()
	v.Works = unix.Fsetxattr(int(file.Fd()), "trusted.x", []byte("y"), 0) == nil
	return json.NewEncoder(os.Stdout).Encode(v)
}

func TestCurrent(t *testing.T) {
	const all = "CHOWN DAC_OVERRIDE FOWNER FSETID SETFCAP MKNOD SYS_ADMIN "
	one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65534, Size: 1}}
	everyone := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: min(1<<32-1, math.MaxInt)}}
	mounts := syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	mapped := func(ids []syscall.SysProcIDMap) syscall.SysProcAttr {
		return syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: ids, GidMappings: ids,
			GidMappingsEnableSetgroups: true, Credential: &syscall.Credential{},
		}
	}
	for _, c := range []struct {
		name string
		by   []string // what is in front of the command
		sys  syscall.SysProcAttr
		how  string
		want view
	}{
		{name: "root", want: view{Full, true, all, true}},
		{name: "root without proc", sys: mounts, how: "no proc", want: view{Full, true, all, true}},
		{name: "nobody", sys: syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, want: view{Level: User}},
		{name: "one id", sys: mapped(one), want: view{Namespace, false, all, false}},
		{name: "all ids", sys: mapped(everyone), want: view{Namespace, false, all, false}},
		{name: "all ids without proc", sys: mapped(everyone), how: "no proc", want: view{Namespace, false, all, false}},
		{name: "unmapped", by: []string{"unshare", "--user"}, want: view{User, false, "", false}},
		{
			name: "container", by: []string{"setpriv", "--bounding-set=-sys_admin"},
			want: view{Reduced, false, strings.ReplaceAll(all, "SYS_ADMIN ", ""), false},
		},
		{
			name: "container that may mount", by: []string{"setpriv", "--bounding-set=-mknod,-chown"},
			want: view{Reduced, true, "DAC_OVERRIDE FOWNER FSETID SETFCAP SYS_ADMIN ", true},
		},
		{name: "no capabilities", by: []string{"setpriv", "--bounding-set=-all"}, want: view{Reduced, false, "", false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.how == "" {
				c.how = "as it is"
			}
			got := become(t, c.by, &c.sys, c.how)
			if got != c.want {
				t.Errorf("got %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// become runs this binary as another user, in a folder of that user.
func become(t *testing.T, by []string, sys *syscall.SysProcAttr, how string) (v view) {
	t.Helper()
	dir := t.TempDir()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "self")
	for _, err := range []error{
		os.WriteFile(exe, self, 0o755), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o777),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	argv := append(by, exe)
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir, cmd.SysProcAttr = dir, sys
	cmd.Env = append(os.Environ(), asChild+"="+how)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &v)
	}
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs.String())
	}
	return v
}
