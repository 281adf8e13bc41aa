package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/privilege"
)

// host looks at the kernel, the rights of this process, the disks and the clock.
func host(ctx context.Context, e *exam) {
	e.found(kernel())
	rights := privilege.Current()
	e.found(rightsOf(rights))
	e.found(userNamespaces(rights))
	disks(ctx, e, rights)
	if f, wrong := clock(time.Now()); wrong {
		e.found(f)
	}
}

// kernel says what the kernel is. What overlayfs can do depends on it.
func kernel() Finding {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Finding{Area: Host, What: "kernel", Level: Unknown, Text: err.Error()}
	}
	release, machine := unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])
	return kernelOf(release, machine)
}

func kernelOf(release, machine string) Finding {
	var major, minor int
	n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor)
	since := func(a, b int) bool { return major > a || major == a && minor >= b }
	f := Finding{Area: Host, What: "kernel", Level: OK, Text: "Linux " + release + " on " + machine, Facts: map[string]any{
		"release": release, "machine": machine, "openat2": since(5, 6), "rootlessOverlay": since(5, 11),
	}}
	switch {
	case n < 2:
		f.Level, f.Text = Unknown, f.Text+": this is no version that is known"
	case !since(4, 0):
		f.Level = Warning
		f.Text += ": before 4.0 an overlay has one lower layer only, so that neither Docker's overlay2 nor fastpull mount work"
	case !since(5, 11):
		f.Text += "; stores that were made without root can be mounted from 5.11 on only"
	}
	return f
}

// rightsOf reports the user and rights of this process, and so what it cannot examine.
func rightsOf(p privilege.Process) Finding {
	f := Finding{Area: Host, What: "rights", Level: OK, Facts: map[string]any{"uid": os.Geteuid(), "trusted": p.Trusted}}
	switch p.Level {
	case privilege.Full:
		f.Text = "root with all capabilities that a pull may want"
	case privilege.Reduced:
		f.Level = Warning
		f.Text = "root without some capabilities"
		if c, missing := p.Missing(privilege.Chown, privilege.DACOverride, privilege.Fowner, privilege.Fsetid, privilege.Setfcap, privilege.Mknod, privilege.SysAdmin); missing {
			f.Text += ": " + c.String() + " is missing"
		}
	case privilege.Namespace:
		f.Level = Unknown
		f.Text = "root of a user namespace: what only the machine's root may look at was left out"
	case privilege.User:
		f.Level = Unknown
		f.Text = fmt.Sprintf("not root but user %d: what only root may look at was left out, such as other users' processes, and mounts", os.Geteuid())
	}
	return f
}

// userNamespaces tries to make one. A program that is not there is started in it:
// that it is not found shows that there was a namespace to look for it in.
func userNamespaces(p privilege.Process) Finding {
	f := Finding{Area: Host, What: "user namespaces", Level: OK, Text: "can be made"}
	const none = "/dev/null/none"
	_, err := syscall.ForkExec(none, []string{none}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}})
	if !errors.Is(err, syscall.ENOTDIR) {
		f.Level = Warning
		f.Text = fmt.Sprintf("cannot be made (%v): users other than root can pull, but cannot mount what they pulled; rootless Docker and Podman do not work", err)
		for _, file := range []string{"user/max_user_namespaces", "kernel/unprivileged_userns_clone", "kernel/apparmor_restrict_unprivileged_userns"} {
			if value, err := os.ReadFile("/proc/sys/" + file); err == nil {
				f.Text += fmt.Sprintf("; %s is %s", strings.ReplaceAll(file, "/", "."), strings.TrimSpace(string(value)))
			}
		}
	}
	f.Facts = map[string]any{"work": f.Level == OK, "root": p.Level == privilege.Full}
	return f
}

// born is when certificates of today had not been issued.
var born = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// clock reports whether the clock is certainly wrong: with it no certificate is valid.
// With a registry it is compared, too.
func clock(now time.Time) (f Finding, wrong bool) {
	return Finding{
		Area: Host, What: "clock", Level: Problem,
		Text: fmt.Sprintf("it says %s: no registry's certificate is valid then", now.UTC().Format(time.RFC3339)),
		Fix:  setClock,
	}, now.Before(born)
}

var setClock = []string{"timedatectl set-ntp true   # or: date -s 'YYYY-MM-DD hh:mm:ss'"}
