package overlay

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// overlayfs recognizes an opaque directory by one of two extended attributes. Only the
// machine's root may set trusted.overlay.opaque. Any user may set user.overlay.opaque, which
// mounts with the option userxattr read (Linux 5.11). A mount reads one of the two and ignores
// the other, so that deleted files would be visible again. So all layers of a store have the
// same attribute, for ever. The process that makes the store chooses it by its rights, and the
// file fastpull/opaque records it.

// opaqueFile has the name of the attribute in it.
const opaqueFile = "fastpull/opaque"

// errUndecided says that a store has no layers and no word on its attribute.
var errUndecided = errors.New("the store is empty")

// form returns how the store keeps opaque directories, or errUndecided.
func (r *Reader) form() (whiteout.Overlay, error) {
	data, err := os.ReadFile(r.path(opaqueFile))
	if err == nil {
		for _, o := range []whiteout.Overlay{{User: false}, {User: true}} {
			if strings.TrimSpace(string(data)) == o.OpaqueXattr() {
				return o, nil
			}
		}
		return whiteout.Overlay{}, fault.New(fault.Corrupt, "%s: %.40q is no attribute of overlayfs", r.path(opaqueFile), data)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return whiteout.Overlay{}, err
	}
	layers, err := os.ReadDir(r.path("image/overlay2/layerdb/sha256"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return whiteout.Overlay{}, err
	}
	if len(layers) == 0 {
		return whiteout.Overlay{}, errUndecided
	}
	return r.dockers()
}

// dockers returns the form of a root that only Docker has written to: a daemon
// that is not the machine's root can have the user's attribute only.
func (r *Reader) dockers() (whiteout.Overlay, error) {
	uid, err := r.owner()
	if err != nil {
		return whiteout.Overlay{}, err
	}
	return whiteout.Overlay{User: uid != 0 || privilege.Current().Level == privilege.Namespace}, nil
}

// owner returns the user that made the store, as a user ID of this user namespace.
func (r *Reader) owner() (uid int, err error) {
	var st unix.Stat_t
	name := r.path("image/overlay2/layerdb")
	if err := unix.Stat(name, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	return int(st.Uid), nil
}

// Whiteouts returns how the layers of this store keep what they delete.
func (s *Store) Whiteouts() whiteout.Overlay { return s.opaque }

// Decided reports whether it was this [Open] that settled what Whiteouts returns.
func (s *Store) Decided() bool { return s.decided }

// settle checks that this process may write layers in the form of the store. In a new store it
// chooses the form.
//
// Root could write to the store of any user. But the owner of the store could not access these
// layers, and in a store of another user namespace their owners would be wrong.
func (s *Store) settle(p privilege.Process) (err error) {
	s.opaque, err = s.fits(p)
	if errors.Is(err, errUndecided) {
		return s.decide(p)
	}
	return err
}

// fits returns the form of the store, if this process may write it; errUndecided
// if it may choose one.
func (r *Reader) fits(p privilege.Process) (whiteout.Overlay, error) {
	uid, err := r.owner()
	if err != nil {
		return whiteout.Overlay{}, err
	}
	me := os.Geteuid()
	// The folder of layers may be another user's, by a symlink. That user can redirect
	// everything else, too.
	for _, name := range []string{"fastpull", "fastpull/run", "fastpull/pending", "overlay2", "overlay2/l", "image", "image/overlay2", "image/overlay2/layerdb"} {
		var st unix.Stat_t
		if unix.Lstat(r.path(name), &st) == nil && int(st.Uid) != me && st.Uid != 0 {
			uid = int(st.Uid)
		}
	}
	if uid != me {
		return whiteout.Overlay{}, fault.WithHint(
			fault.New(fault.Denied, "it belongs to the user %d, and fastpull runs as %d", uid, me),
			"run fastpull as the owner, in the user namespace that the store was made in, or name another directory with --store")
	}
	form, err := r.form()
	if err == nil && !form.User && !p.Trusted {
		err = fault.WithHint(
			fault.New(fault.Denied, "its layers have the attribute %s, which only the machine's root with CAP_SYS_ADMIN may set", form.OpaqueXattr()),
			"name another directory with --store, or pull as the user that made this store")
	}
	return form, err
}

// decide writes down the form of a new store. Of several processes that meet in
// it the first one decides.
func (s *Store) decide(p privilege.Process) error {
	want := whiteout.Overlay{User: !p.Trusted}
	folder, err := s.folder()
	if err != nil {
		return err
	}
	tmp := filepath.Join(folder, randomID(8))
	if err := writeNew(tmp, 0o644, []byte(want.OpaqueXattr()+"\n")); err != nil {
		return err
	}
	defer os.Remove(tmp) // with the folder that it is in, at the latest
	switch err := os.Link(tmp, s.path(opaqueFile)); {
	case err == nil:
		s.opaque, s.decided = want, true
		return nil
	case errors.Is(err, fs.ErrExist):
		return s.settle(p)
	default:
		return err
	}
}
