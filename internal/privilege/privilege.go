// Package privilege reports which rights over files the kernel gives this process: all rights of
// root, or fewer, and why.
//
// The effective user ID is not enough for that. It is also 0 for the root of a user namespace,
// and in a container that was started without some capabilities. Both have fewer rights than the
// root of the machine, and each has different ones.
package privilege

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Level summarizes the rights of a process.
type Level int

const (
	// Full is root of the machine, with all capabilities that [Capability] has.
	Full Level = iota
	// Reduced is root of the machine without some capabilities: most often root in a container,
	// or a process that a security module restricts.
	Reduced
	// Namespace is root of a user namespace.
	Namespace
	// User is a process without any of these rights.
	User
)

// Capability is a capability that an extraction or a mount needs.
type Capability int

// The capabilities that count, see capabilities(7).
const (
	Chown       Capability = unix.CAP_CHOWN        // any owner
	DACOverride Capability = unix.CAP_DAC_OVERRIDE // whatever the modes of directories
	Fowner      Capability = unix.CAP_FOWNER       // metadata of files that are another's by now
	Fsetid      Capability = unix.CAP_FSETID       // setgid bits of files of other groups
	Setfcap     Capability = unix.CAP_SETFCAP      // security.capability
	Mknod       Capability = unix.CAP_MKNOD        // devices
	SysAdmin    Capability = unix.CAP_SYS_ADMIN    // trusted.*, and mounts
)

var names = map[Capability]string{
	Chown: "CAP_CHOWN", DACOverride: "CAP_DAC_OVERRIDE", Fowner: "CAP_FOWNER",
	Fsetid: "CAP_FSETID", Setfcap: "CAP_SETFCAP", Mknod: "CAP_MKNOD", SysAdmin: "CAP_SYS_ADMIN",
}

// String returns the capability's usual name.
func (c Capability) String() string { return names[c] }

// Process has the rights of a process.
type Process struct {
	Level Level
	// Trusted says that it may set attributes trusted.*, as which overlayfs and
	// Docker keep opaque directories. It takes SysAdmin over the machine.
	Trusted bool

	effective uint64 // capabilities, a bit each
}

// Has reports whether the process has the capability, over its user namespace.
func (p Process) Has(c Capability) bool { return p.effective&(1<<c) != 0 }

// ForOwners are the capabilities to give a file to another owner and then set its attributes,
// mode and times, as an extraction does.
var ForOwners = []Capability{Chown, Fowner, DACOverride}

// Missing returns the first of the capabilities that the process has not.
func (p Process) Missing(all ...Capability) (Capability, bool) {
	for _, c := range all {
		if !p.Has(c) {
			return c, true
		}
	}
	return 0, false
}

// Current looks at this process. It is cheap, and does not need /proc.
func Current() Process {
	p := Process{effective: effective()}
	trial := trustedTrial()
	first := initial(trial, p.Has(SysAdmin))
	switch {
	case trial == nil:
		p.Trusted = true
	case errors.Is(trial, unix.EPERM):
	default: // nothing was learnt: the kernel has no attributes in memory, say
		p.Trusted = first && p.Has(SysAdmin)
	}
	p.Level = p.level(os.Geteuid(), first)
	return p
}

func (p Process) level(euid int, first bool) Level {
	switch {
	case euid != 0:
		return User
	case !first:
		return Namespace
	}
	for c := range names {
		if !p.Has(c) {
			return Reduced
		}
	}
	if !p.Trusted {
		return Reduced
	}
	return Full
}

// effective returns the effective capabilities. If it cannot read them, it returns all of them
// for root, and none for other users.
func effective() uint64 {
	var data [2]unix.CapUserData
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
	switch {
	case err == nil:
		return uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
	case os.Geteuid() == 0:
		return ^uint64(0)
	}
	return 0
}

// trustedTrial sets an attribute trusted.* on a file in memory. EPERM means that this process
// may not.
func trustedTrial() error {
	fd, err := unix.MemfdCreate("fastpull", unix.MFD_CLOEXEC)
	if err != nil {
		return unix.ENOTSUP // and not what a filter of system calls says
	}
	defer unix.Close(fd)
	return unix.Fsetxattr(fd, "trusted.fastpull", []byte("y"), 0)
}

// initial reports whether this is the initial user namespace of the machine, whose number has
// been the same since Linux 3.8 (USER_NS_INIT_INO). Without /proc it uses trial, the result of
// an operation that a process with CAP_SYS_ADMIN can do only there.
func initial(trial error, admin bool) bool {
	if ns, err := os.Readlink("/proc/self/ns/user"); err == nil {
		return strings.HasSuffix(ns, ":[4026531837]")
	}
	return !admin || !errors.Is(trial, unix.EPERM)
}
