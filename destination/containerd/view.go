package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/containerdapi"
	"github.com/fastpull/fastpull/internal/privilege"
)

// view is how this process sees the files of snapshots.
type view struct {
	known bool
	dir   string // has the snapshots' directories, "" if they are out of reach
	why   string // they are out of reach
	root  string // precedes the paths of containerd here, see roots
	user  bool   // mounts have the option userxattr
}

// look finds out whether layers can be extracted into snapshots directly: the snapshotter is
// overlayfs, and containerd counts a file that this process puts into a snapshot.
func (s *store) look(ctx context.Context) (v view, err error) {
	v.known = true
	if name := s.snaps.Name(); name != overlayfs {
		v.why = "its snapshotter is " + name
		return v, nil
	}
	key := s.key("view")
	base, child := key+" base", key+" child"
	defer func() {
		ctx, cancel := s.after()
		defer cancel()
		for _, k := range []string{child, base, key} {
			_ = s.snaps.Remove(ctx, k) // or the lease does
		}
	}()
	mounts, err := s.snaps.Prepare(ctx, key, "", nil)
	if err != nil {
		return v, err
	}
	files, ok := bound(mounts)
	if !ok {
		v.why = "a snapshot is no plain directory"
		return v, nil
	}
	if v.root, v.why, err = s.locate(ctx, key, files); err != nil || v.why != "" {
		return v, err
	}
	// Only a snapshot on another one shows how it is mounted.
	if err := s.snaps.Commit(ctx, base, key, "", nil); err != nil {
		return v, err
	}
	if mounts, err = s.snaps.Prepare(ctx, child, base, nil); err != nil {
		return v, err
	}
	upper, ok := upperOf(mounts)
	if !ok || snapshotsDir(upper) != snapshotsDir(files) {
		v.why = "its snapshots are not mounted with overlayfs"
		return v, nil
	}
	v.dir = snapshotsDir(v.root + files)
	_, v.user = containerdapi.MountOption(mounts[0], "userxattr")
	return v, nil
}

// bound returns the directory of a snapshot without a parent.
func bound(mounts []*containerdapi.Mount) (dir string, ok bool) {
	if len(mounts) != 1 || mounts[0].Type != "bind" || !filepath.IsAbs(mounts[0].Source) {
		return "", false
	}
	return mounts[0].Source, true
}

// upperOf returns the directory of a snapshot with a parent.
func upperOf(mounts []*containerdapi.Mount) (dir string, ok bool) {
	if len(mounts) != 1 || mounts[0].Type != "overlay" {
		return "", false
	}
	dir, ok = containerdapi.MountOption(mounts[0], "upperdir")
	return dir, ok && filepath.IsAbs(dir)
}

// locate returns the root under which this process has files, the directory of an active
// snapshot, or why it cannot use the directory.
func (s *store) locate(ctx context.Context, key, files string) (root, why string, err error) {
	for _, root := range roots(s.c.Address()) {
		switch seen, err := s.shared(ctx, key, root+files); {
		case err != nil:
			return "", "", err
		case !seen:
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(root+files, &st); err != nil {
			return "", "", fmt.Errorf("look at the snapshot %s: %w", root+files, err)
		}
		// Files of the image's root have to belong to the root that containerd has.
		if s.env.Rights.Level == privilege.User || int(st.Uid) != os.Geteuid() {
			return "", fmt.Sprintf("its files belong to the user ID %d here, and fastpull (user ID %d) is not root of its user namespace; run fastpull in that", st.Uid, os.Geteuid()), nil
		}
		return root, "", nil
	}
	return "", "this process does not see its directory " + snapshotsDir(files), nil
}

// roots returns the directories where the root of containerd's file system may be for this
// process: its own root first, and then what precedes a usual path of the socket. That is
// /proc/PID/root for a containerd in another mount namespace, and the mount point in a
// container that has the host's file system.
func roots(socket string) []string {
	list := []string{""}
	for _, usual := range sockets {
		if root, ok := strings.CutSuffix(socket, usual); ok && root != "" {
			list = append(list, root)
		}
	}
	if root, _, ok := strings.Cut(socket, "/root/"); ok && strings.HasPrefix(root, "/proc/") && !slices.Contains(list, root+"/root") {
		list = append(list, root+"/root")
	}
	return list
}

// shared reports whether containerd counts a file that is put into dir, the directory of an
// active snapshot.
func (s *store) shared(ctx context.Context, key, dir string) (bool, error) {
	before, err := s.snaps.Usage(ctx, key)
	if err != nil {
		return false, err
	}
	file := filepath.Join(dir, "fastpull")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return false, nil // the directory is not there, or not for this process
	}
	f.Close()
	after, err := s.snaps.Usage(ctx, key)
	if rerr := os.Remove(file); rerr != nil {
		err = errors.Join(err, fmt.Errorf("look at a snapshot: %w", rerr))
	}
	return after == before+1, err
}
