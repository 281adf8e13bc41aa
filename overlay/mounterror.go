package overlay

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/privilege"
)

// version is that of a kernel.
type version struct{ major, minor int }

func (v version) before(major, minor int) bool {
	return v.major < major || v.major == major && v.minor < minor
}

// kernel returns the version of the running one, and zeros if it does not say.
func kernel() version {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return version{}
	}
	return parseVersion(unix.ByteSliceToString(u.Release[:]))
}

func parseVersion(release string) version {
	var v version
	if n, _ := fmt.Sscanf(release, "%d.%d", &v.major, &v.minor); n < 2 {
		return version{}
	}
	return v
}

// mountError adds a hint to the error of a mount, for which the kernel has the same error for
// very different reasons. user reports whether the mount had the option userxattr.
func mountError(err error, p privilege.Process, user bool, k version) error {
	refused := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
	old := k != version{} && k.before(5, 11)
	switch {
	case old && user && (errors.Is(err, unix.EINVAL) || refused && (p.Level == privilege.Namespace || p.Level == privilege.User)):
		return fault.WithHint(fault.Wrap(fault.Denied, err),
			"this kernel (%d.%d) is too old: a store that was not made by the machine's root is mounted from Linux 5.11 on; extract the image with --rootfs", k.major, k.minor)
	case !refused:
		return err
	}
	hint := "only root may mount"
	switch {
	case p.Level == privilege.User:
		hint = "only root may mount, of a user namespace at least: unshare --user --map-root-user --mount"
	case !p.Has(privilege.SysAdmin):
		hint = "mounting takes CAP_SYS_ADMIN, which this process has not; extract the image with --rootfs"
	case p.Level == privilege.Namespace:
		hint = "root of a user namespace may mount in a mount namespace of its own: unshare --user --map-root-user --mount"
	}
	return fault.WithHint(fault.Wrap(fault.Denied, err), "%s", hint)
}
