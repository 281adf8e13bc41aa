package destination

import (
	"fmt"
	"sync/atomic"

	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/unpack"
)

// LeftOut counts what could not be kept of the files of a run's images. The zero value is
// ready, and safe for concurrent use.
type LeftOut struct{ xattrs, owners, devices, setgid atomic.Int64 }

// Add counts what a layer left out.
func (l *LeftOut) Add(s unpack.Stats) {
	l.xattrs.Add(int64(s.NoXattr))
	l.owners.Add(int64(s.NoOwner))
	l.devices.Add(int64(s.NoDevice))
	l.setgid.Add(int64(s.NoSetgid))
}

// Warn reports what was left out, and why, once for the whole run.
func (l *LeftOut) Warn(p *progress.Display, rights privilege.Process) {
	if n := l.xattrs.Load(); n > 0 {
		why := "the file system or the kernel does not take them"
		if c, missing := rights.Missing(privilege.Setfcap); missing && rights.Level == privilege.Reduced {
			why = fmt.Sprintf("fastpull is running without %s, or the file system does not take them", c)
		}
		p.Warn("%s left out: %s", were(n, "extended attribute"), why)
	}
	if n := l.owners.Load(); n > 0 {
		owner := "you"
		if rights.Level != privilege.User {
			owner = "root"
		}
		verb := "belong"
		if n == 1 {
			verb = "belongs"
		}
		p.Warn("%s %s to %s and not to the image's owner, since %s", text.Count(n, "file"), verb, owner,
			refused(rights, "this user namespace does not have that user or group", privilege.ForOwners...))
	}
	if n := l.setgid.Load(); n > 0 {
		p.Warn("%s left out, since %s", were(n, "setgid bit"), refused(rights, "this user namespace does not have that group", privilege.Fsetid))
	}
	if n := l.devices.Load(); n > 0 {
		p.Warn("%s left out, since %s", were(n, "device"),
			refused(rights, "a user namespace cannot make any", privilege.Mknod))
	}
}

// WouldLeaveOut returns what a pull into a store or a directory leaves out of images with
// these rights, and why: a phrase for each kind of thing, none for root.
func WouldLeaveOut(rights privilege.Process) (list []string) {
	if rights.Level == privilege.Full {
		return nil
	}
	space := rights.Level == privilege.Namespace
	if _, missing := rights.Missing(privilege.ForOwners...); missing {
		list = append(list, "owners, since "+refused(rights, "", privilege.ForOwners...))
	} else if space {
		list = append(list, "owners that this user namespace does not have")
	}
	if rights.Level == privilege.Reduced && !rights.Has(privilege.Fsetid) {
		list = append(list, "setgid bits of files of other groups, since "+refused(rights, "", privilege.Fsetid))
	}
	if _, missing := rights.Missing(privilege.Mknod); missing || space {
		list = append(list, "devices, since "+refused(rights, "a user namespace cannot make any", privilege.Mknod))
	}
	if !rights.Trusted {
		list = append(list, "attributes that only the machine's root may set")
	}
	return list
}

// refused returns why the kernel refuses what needs the capabilities. namespace is the
// reason for root of a user namespace.
func refused(rights privilege.Process, namespace string, all ...privilege.Capability) string {
	if rights.Level == privilege.User {
		return "fastpull is not running as root"
	}
	if c, missing := rights.Missing(all...); missing {
		return fmt.Sprintf("fastpull is running without %s", c)
	}
	if rights.Level == privilege.Namespace {
		return namespace
	}
	return "the kernel or the file system refuses that"
}

func were(n int64, what string) string {
	if n == 1 {
		return text.Count(n, what) + " was"
	}
	return text.Count(n, what) + " were"
}
