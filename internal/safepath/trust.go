package safepath

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// trust says which users this process trusts.
type trust struct {
	euid, sudo uint32
	top        uint32 // the owner of the root directory
}

// trusted returns the users that this process trusts now.
func trusted() trust {
	t := trust{euid: uint32(os.Geteuid())}
	if id, err := strconv.ParseUint(os.Getenv("SUDO_UID"), 10, 32); err == nil && t.euid == 0 {
		t.sudo = uint32(id)
	}
	var st unix.Stat_t
	if unix.Stat("/", &st) == nil {
		t.top = st.Uid
	}
	return t
}

// user reports whether a link or file of the user is as good as the caller's own.
func (t trust) user(uid uint32) bool { return uid == 0 || uid == t.euid || uid == t.sudo }

// exposed reports whether strangers can make things in the directory. Access control
// lists show in the bits of the group, which are the most that they allow.
func (t trust) exposed(dir *unix.Stat_t) bool {
	return !t.user(dir.Uid) && dir.Uid != t.top || dir.Mode&0o022 != 0
}

// replaceable reports whether strangers can give the name of the entry to something
// else.
func (t trust) replaceable(dir, entry *unix.Stat_t) bool {
	if !t.exposed(dir) {
		return false
	}
	kept := dir.Mode&unix.S_ISVTX != 0 && (t.user(dir.Uid) || dir.Uid == t.top) &&
		(t.user(entry.Uid) || entry.Uid == t.top)
	return !kept
}

// planted reports whether the entry of a directory may be the work of a stranger.
func (t trust) planted(dir, entry *unix.Stat_t) bool {
	if !t.exposed(dir) {
		return false
	}
	return !t.user(entry.Uid) || entry.Mode&unix.S_IFMT != unix.S_IFDIR && entry.Nlink > 1
}
