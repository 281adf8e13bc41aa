//go:build e2e

package kit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// rootlessSocket is the socket of a rootless containerd in its mount namespace, which has a
// /run of its own.
const rootlessSocket = "/run/containerd/containerd.sock"

// inNamespace is a shell script that runs its arguments after it has read a line.
const inNamespace = `read line && mount -t tmpfs run /run && exec "$@" --address ` + rootlessSocket

// rootless has cmd run a containerd as root of a user namespace that belongs to [Nobody],
// with a range of IDs and a mount namespace of its own, as rootlesskit does. The files below
// dir are given to that user. enter lets containerd begin, once cmd was started.
func rootless(t *testing.T, cmd *exec.Cmd, dir string) (enter func()) {
	t.Helper()
	program := filepath.Join(dir, "containerd")
	Run(t, "cp", cmd.Path, program) // not every user may read Go's build cache
	if err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(name, Nobody, Nobody))
	}); err != nil {
		t.Fatal(err)
	}
	by := []string{"setpriv", "--reuid", fmt.Sprint(Nobody), "--regid", fmt.Sprint(Nobody), "--clear-groups",
		"unshare", "--user", "--mount", "sh", "-c", inNamespace, "sh", program}
	setpriv, err := exec.LookPath(by[0])
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args = append(by, cmd.Args[1:]...)
	cmd.Path = setpriv
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		proc := filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid))
		ours, _ := os.Readlink("/proc/self/ns/mnt")
		if !Eventually(10*time.Second, func() bool {
			its, err := os.Readlink(proc + "/ns/mnt")
			return err == nil && its != ours
		}) {
			t.Fatal("there is no user namespace")
		}
		ids := fmt.Sprintf("0 %d 1\n1 100000 65535\n", Nobody)
		err := errors.Join(os.WriteFile(proc+"/uid_map", []byte(ids), 0), os.WriteFile(proc+"/gid_map", []byte(ids), 0))
		if _, werr := io.WriteString(in, "\n"); err != nil || werr != nil {
			t.Fatal(errors.Join(err, werr))
		}
	}
}

// Outside returns the user of a rootless containerd, outside of its namespaces.
func (c *Containerd) Outside(t *testing.T) *User {
	t.Helper()
	u := EveryRights[0].NewUser(t)
	run := filepath.Join(u.Home, "run/containerd-rootless")
	err := errors.Join(os.MkdirAll(run, 0o755), os.WriteFile(filepath.Join(run, "child_pid"), []byte(strconv.Itoa(c.Pid)), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	u.Env = append(u.Env, "CONTAINERD_NAMESPACE=e2e", "XDG_RUNTIME_DIR="+filepath.Dir(run))
	return u
}

// Inside returns the user of a rootless containerd, in its namespaces.
func (c *Containerd) Inside(t *testing.T) *User {
	t.Helper()
	u := EveryRights[0].NewUser(t)
	program, err := exec.LookPath("nsenter")
	if err != nil {
		t.Fatal(err)
	}
	u.By = strings.Fields(fmt.Sprintf("%s --user --mount --preserve-credentials --target %d", program, c.Pid))
	u.Env = append(u.Env, "CONTAINERD_NAMESPACE=e2e")
	return u
}
