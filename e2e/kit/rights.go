//go:build e2e

package kit

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const Nobody = 65534

// Rights are the rights of a process that has fewer than the machine's root.
type Rights struct {
	Name   string
	Host   int      // the user ID outside of the user namespace
	Ids    int      // how many IDs from 0 on the process can give files to; 0 for none
	Space  bool     // the process is root of a user namespace, with a mount namespace of its own
	Caps   bool     // security.capability is allowed
	By     []string // the program, with arguments, that gives these rights
	owners string   // the words for owners that were left out
	device string   // and of devices
}

// EveryRights are those that fastpull is run with. The IDs of the namespace with
// a range are, outside, those from its host on.
var EveryRights = []Rights{
	{
		Name: "Nobody", Host: Nobody,
		owners: "you and not to the image's owner, since fastpull is not running as root", device: "fastpull is not running as root",
	},
	{
		Name: "NamespaceOfNobody", Host: Nobody, Ids: 1, Space: true, Caps: true, By: []string{"unshare", "--user", "--map-root-user", "--mount"},
		owners: "root and not to the image's owner, since this user namespace does not have that user or group", device: "a user namespace cannot make any",
	},
	{
		Name: "NamespaceOfRoot", Host: 0, Ids: 1, Space: true, Caps: true, By: []string{"unshare", "--user", "--map-root-user", "--mount"},
		owners: "root and not to the image's owner, since this user namespace does not have that user or group", device: "a user namespace cannot make any",
	},
	{
		Name: "NamespaceWithRange", Host: 100_000, Ids: 1 << 16, Space: true, Caps: true,
		owners: "root and not to the image's owner, since this user namespace does not have that user or group", device: "a user namespace cannot make any",
	},
	{
		Name: "Container", Ids: min(1<<32-1, math.MaxInt), Caps: true, By: []string{"setpriv", "--bounding-set=-sys_admin,-mknod"},
		device: "fastpull is running without CAP_MKNOD",
	},
	{
		Name: "NoFowner", Caps: true, By: []string{"setpriv", "--bounding-set=-sys_admin,-mknod,-fowner"},
		owners: "root and not to the image's owner, since fastpull is running without CAP_FOWNER", device: "fastpull is running without CAP_MKNOD",
	},
	{
		Name: "NoCapabilities", By: []string{"setpriv", "--bounding-set=-all"},
		owners: "root and not to the image's owner, since fastpull is running without CAP_CHOWN", device: "fastpull is running without CAP_MKNOD",
	},
}

// NewUser gives these rights to a new user with folders of its own.
func (r Rights) NewUser(t *testing.T) *User {
	t.Helper()
	u := NewUser(t)
	err := errors.Join(os.Chmod(filepath.Dir(u.Home), 0o755), os.Chmod(u.trap.Dir, 0o777),
		os.Chown(u.Home, r.Host, r.Host), os.Chown(u.Tmp, r.Host, r.Host))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.By) > 0 {
		program, err := exec.LookPath(r.By[0])
		if err != nil {
			t.Fatal(err)
		}
		u.By = append([]string{program}, r.By[1:]...)
	}
	switch {
	case r.Space && r.By == nil: // by an administrator, as /etc/subuid would allow it
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: r.Host, Size: r.Ids}}
		u.Sys = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: ids, GidMappings: ids,
			GidMappingsEnableSetgroups: true, Credential: &syscall.Credential{},
		}
	case r.Host != 0:
		u.Sys = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(r.Host), Gid: uint32(r.Host)}}
	}
	return u
}

// has reports whether the user can give a file to that owner.
func (r Rights) has(uid, gid int) bool { return uid < r.Ids && gid < r.Ids }

// See turns what root makes of an image into what the user can make of it.
func (r Rights) See(tree map[string]Node) map[string]Node {
	seen := map[string]Node{}
	for path, n := range tree {
		if strings.HasSuffix(n["type"], "device") {
			continue
		}
		mine := Node{}
		for attr, value := range n {
			mine[attr] = value
		}
		var uid, gid int
		fmt.Sscanf(n["owner"], "%d:%d", &uid, &gid)
		if !r.has(uid, gid) {
			if mode := []byte(n["mode"]); len(mode) == 4 && (uid != 0 || gid != 0) {
				mode[0] &^= 6 // setuid and setgid go with the owner
				mine["mode"] = string(mode)
			}
			uid, gid = 0, 0
		}
		mine["owner"] = fmt.Sprintf("%d:%d", uid+r.Host, gid+r.Host)
		seen[path] = mine
	}
	return seen
}

// Warnings are the expected warnings after an image, counted from its tars.
func (r Rights) Warnings(t *testing.T, im Image) []string {
	t.Helper()
	var xattrs, owners, devices int
	for _, l := range im.Layers {
		device := map[string]bool{}
		for tr := tar.NewReader(bytes.NewReader(l.Plain)); ; {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			switch h.Typeflag {
			case tar.TypeChar, tar.TypeBlock:
				device[h.Name] = true
				devices++
				continue
			case tar.TypeLink:
				if device[h.Linkname] {
					devices++
					continue
				}
			}
			// Where owners can be set, each entry of a file tries it; else the file is counted once.
			if (h.Typeflag != tar.TypeLink || r.Space) && (h.Uid != 0 || h.Gid != 0) && !r.has(h.Uid, h.Gid) {
				owners++
			}
			for name := range h.PAXRecords {
				name, _ := strings.CutPrefix(name, "SCHILY.xattr.")
				if strings.HasPrefix(name, "trusted.") || name == "security.capability" && !r.Caps {
					xattrs++
				}
			}
		}
	}
	list := []string{}
	why := "the file system or the kernel does not take them"
	if !r.Caps && len(r.By) > 0 {
		why = "fastpull is running without CAP_SETFCAP, or the file system does not take them"
	}
	if xattrs == 1 {
		list = append(list, "warning: 1 extended attribute was left out: "+why)
	} else {
		list = append(list, fmt.Sprintf("warning: %d extended attributes were left out: %s", xattrs, why))
	}
	switch {
	case owners == 1:
		list = append(list, "warning: 1 file belongs to "+r.owners)
	case owners > 1:
		list = append(list, fmt.Sprintf("warning: %d files belong to %s", owners, r.owners))
	}
	return append(list, fmt.Sprintf("warning: %d devices were left out, since %s", devices, r.device))
}

// Warnings picks the warnings out of what fastpull said.
func (r Result) Warnings() []string {
	list := []string{}
	for line := range strings.Lines(r.Stderr) {
		if strings.HasPrefix(line, "warning: ") {
			list = append(list, strings.TrimSpace(line))
		}
	}
	return list
}

// MountNamespace is a mount namespace that lasts until the end of a test. Other tests make mount
// namespaces, too, with copies of the mounts that they find. A mount in a namespace of the test's
// own has no copies, so its unmount leaves the layers unused.
type MountNamespace struct{ pid string }

// NewMountNamespace makes a mount namespace.
func NewMountNamespace(t *testing.T) MountNamespace {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "sh", "-c", "echo made && exec cat")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Errorf("the mount namespace's process: %v", err)
		}
	})
	if _, err := io.ReadFull(out, make([]byte, len("made\n"))); err != nil {
		t.Fatalf("make a mount namespace: %v", err)
	}
	return MountNamespace{strconv.Itoa(cmd.Process.Pid)}
}

// User returns a user whose fastpull runs in the namespace.
func (n MountNamespace) User(t *testing.T) *User {
	t.Helper()
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		t.Fatal(err)
	}
	u := NewUser(t)
	u.By = []string{nsenter, "--target", n.pid, "--mount"}
	return u
}

// Path returns the path by which processes outside of the namespace see one in it.
func (n MountNamespace) Path(path string) string { return filepath.Join("/proc", n.pid, "root", path) }
