//go:build e2e

package e2e

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
	"strings"
	"syscall"
	"testing"
)

const nobody = 65534

// rights is somebody who is less than the machine's root.
type rights struct {
	name   string
	host   int      // who he is outside of his user namespace
	ids    int      // the IDs from 0 that he can give files to; 0: none
	space  bool     // he is root of a user namespace, with a mount namespace of its own
	caps   bool     // security.capability is allowed
	by     []string // the program, with arguments, that makes him so
	owners string   // how he is told of owners left out
	device string   // and of devices
}

// everyRights are those that fastpull is run with. The IDs of the namespace with
// a range are, outside, those from its host on.
var everyRights = []rights{
	{
		name: "Nobody", host: nobody,
		owners: "you and not to the image's owner, since fastpull is not running as root", device: "fastpull is not running as root",
	},
	{
		name: "NamespaceOfNobody", host: nobody, ids: 1, space: true, caps: true, by: []string{"unshare", "--user", "--map-root-user", "--mount"},
		owners: "root and not to the image's owner, since this user namespace does not have that user or group", device: "a user namespace cannot make any",
	},
	{
		name: "NamespaceOfRoot", host: 0, ids: 1, space: true, caps: true, by: []string{"unshare", "--user", "--map-root-user", "--mount"},
		owners: "root and not to the image's owner, since this user namespace does not have that user or group", device: "a user namespace cannot make any",
	},
	{
		name: "NamespaceWithRange", host: 100_000, ids: 1 << 16, space: true, caps: true,
		owners: "root and not to the image's owner, since this user namespace does not have that user or group", device: "a user namespace cannot make any",
	},
	{
		name: "Container", ids: min(1<<32-1, math.MaxInt), caps: true, by: []string{"setpriv", "--bounding-set=-sys_admin,-mknod"},
		device: "fastpull is running without CAP_MKNOD",
	},
	{
		name: "NoFowner", caps: true, by: []string{"setpriv", "--bounding-set=-sys_admin,-mknod,-fowner"},
		owners: "root and not to the image's owner, since fastpull is running without CAP_FOWNER", device: "fastpull is running without CAP_MKNOD",
	},
	{
		name: "NoCapabilities", by: []string{"setpriv", "--bounding-set=-all"},
		owners: "root and not to the image's owner, since fastpull is running without CAP_CHOWN", device: "fastpull is running without CAP_MKNOD",
	},
}

// newUser gives these rights to a new user, whose folders are his.
func (r rights) newUser(t *testing.T) *user {
	t.Helper()
	u := newUser(t)
	err := errors.Join(os.Chmod(filepath.Dir(u.home), 0o755), os.Chmod(u.trap.dir, 0o777),
		os.Chown(u.home, r.host, r.host), os.Chown(u.tmp, r.host, r.host))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.by) > 0 {
		program, err := exec.LookPath(r.by[0])
		if err != nil {
			t.Fatal(err)
		}
		u.by = append([]string{program}, r.by[1:]...)
	}
	switch {
	case r.space && r.by == nil: // by an administrator, as /etc/subuid would allow it
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: r.host, Size: r.ids}}
		u.sys = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: ids, GidMappings: ids,
			GidMappingsEnableSetgroups: true, Credential: &syscall.Credential{},
		}
	case r.host != 0:
		u.sys = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(r.host), Gid: uint32(r.host)}}
	}
	return u
}

// has tells if he can give a file to that owner.
func (r rights) has(uid, gid int) bool { return uid < r.ids && gid < r.ids }

// see turns what root makes of an image into what he can make of it.
func (r rights) see(tree map[string]node) map[string]node {
	seen := map[string]node{}
	for path, n := range tree {
		if strings.HasSuffix(n["type"], "device") {
			continue
		}
		mine := node{}
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
		mine["owner"] = fmt.Sprintf("%d:%d", uid+r.host, gid+r.host)
		seen[path] = mine
	}
	return seen
}

// warnings are what he is to be told after an image, counted from its tars.
func (r rights) warnings(t *testing.T, im image) []string {
	t.Helper()
	var xattrs, owners, devices int
	for _, l := range im.layers {
		device := map[string]bool{}
		for tr := tar.NewReader(bytes.NewReader(l.plain)); ; {
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
			if (h.Typeflag != tar.TypeLink || r.space) && (h.Uid != 0 || h.Gid != 0) && !r.has(h.Uid, h.Gid) {
				owners++
			}
			for name := range h.PAXRecords {
				name, _ := strings.CutPrefix(name, "SCHILY.xattr.")
				if strings.HasPrefix(name, "trusted.") || name == "security.capability" && !r.caps {
					xattrs++
				}
			}
		}
	}
	list := []string{}
	if xattrs == 1 {
		list = append(list, "warning: 1 extended attribute was left out: the file system or the kernel does not take them")
	} else {
		list = append(list, fmt.Sprintf("warning: %d extended attributes were left out: the file system or the kernel does not take them", xattrs))
	}
	switch {
	case owners == 1:
		list = append(list, "warning: 1 file belongs to "+r.owners)
	case owners > 1:
		list = append(list, fmt.Sprintf("warning: %d files belong to %s", owners, r.owners))
	}
	return append(list, fmt.Sprintf("warning: %d devices were left out, since %s", devices, r.device))
}

// warnings picks the warnings out of what fastpull said.
func (r result) warnings() []string {
	list := []string{}
	for line := range strings.Lines(r.stderr) {
		if strings.HasPrefix(line, "warning: ") {
			list = append(list, strings.TrimSpace(line))
		}
	}
	return list
}
