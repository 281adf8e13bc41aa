package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/containerdapi"
	"github.com/fastpull/fastpull/destination/internal/imagestore"
	"github.com/fastpull/fastpull/internal/privilege"
)

// cleanupTimeout bounds what is done after the look has ended.
const cleanupTimeout = 30 * time.Second

// looker finds out what this process sees of the directories of a containerd.
type looker struct {
	*daemon
	c     *containerdapi.Client // with the lease of the run
	snaps *containerdapi.Snapshots
	lease string
}

// look finds out which directories of containerd this process can use.
func (d *daemon) look(ctx context.Context, lease string) (imagestore.Reach, error) {
	c := d.c.Leased(lease)
	l := &looker{daemon: d, c: c, snaps: c.Snapshots(d.name), lease: lease}
	r, err := l.snapshots(ctx)
	if err != nil {
		return r, fmt.Errorf("look at the snapshots of containerd: %w", err)
	}
	r.Content, err = l.findContent(ctx)
	return r, err
}

// after returns a context for what has to be done even if the run was cancelled.
func (l *looker) after(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
}

// snapshots finds out whether layers can be extracted into snapshots directly: the snapshotter
// is overlayfs, and containerd counts a file that this process puts into a snapshot.
func (l *looker) snapshots(ctx context.Context) (r imagestore.Reach, err error) {
	if l.name != imagestore.Overlayfs {
		r.Why = "its snapshotter is " + l.name
		return r, nil
	}
	key := fmt.Sprintf("extract-%d-%s view", time.Now().Nanosecond(), l.lease)
	base, child := key+" base", key+" child"
	defer func() {
		ctx, cancel := l.after(ctx)
		defer cancel()
		for _, k := range []string{child, base, key} {
			_ = l.snaps.Remove(ctx, k) // or the lease does
		}
	}()
	mounts, err := l.snaps.Prepare(ctx, key, "", nil)
	if err != nil {
		return r, err
	}
	files, ok := imagestore.Bound(mounts)
	if !ok {
		r.Why = "a snapshot is no plain directory"
		return r, nil
	}
	if r.Root, r.Why, err = l.locate(ctx, key, files); err != nil || r.Why != "" {
		return r, err
	}
	// Only a snapshot on another one shows how it is mounted.
	if err := l.snaps.Commit(ctx, base, key, "", nil); err != nil {
		return r, err
	}
	if mounts, err = l.snaps.Prepare(ctx, child, base, nil); err != nil {
		return r, err
	}
	upper, ok := imagestore.Upper(mounts)
	if !ok || imagestore.Above(upper) != imagestore.Above(files) {
		r.Why = "its snapshots are not mounted with overlayfs"
		return r, nil
	}
	r.Snapshots = imagestore.Above(r.Root + files)
	_, r.User = containerdapi.MountOption(mounts[0], "userxattr")
	return r, nil
}

// locate returns the root under which this process has files, the directory of an active
// snapshot, or why it cannot use the directory.
func (l *looker) locate(ctx context.Context, key, files string) (root, why string, err error) {
	for _, root := range roots(l.c.Address()) {
		switch seen, err := l.shared(ctx, key, root+files); {
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
		if !l.owns(st) {
			return "", fmt.Sprintf("its files belong to the user ID %d here, and fastpull (user ID %d) is not root of its user namespace; run fastpull in that", st.Uid, os.Geteuid()), nil
		}
		return root, "", nil
	}
	return "", "this process does not see its directory " + imagestore.Above(files), nil
}

// owns reports whether a file of containerd belongs to the root of this process's user
// namespace, and this process is that root.
func (d *daemon) owns(st unix.Stat_t) bool {
	return d.env.Rights.Level != privilege.User && int(st.Uid) == os.Geteuid()
}

// roots returns the directories at which this process may find the root of containerd's file
// system. The first is "", its own root. The next is the part of the socket's path before a
// usual path: the mount point of the host's file system in a container. The last is
// /proc/PID/root, for a containerd in another mount namespace.
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
func (l *looker) shared(ctx context.Context, key, dir string) (bool, error) {
	before, err := l.snaps.Usage(ctx, key)
	if err != nil {
		return false, err
	}
	file := filepath.Join(dir, "fastpull")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return false, nil // the directory is not there, or not for this process
	}
	f.Close()
	after, err := l.snaps.Usage(ctx, key)
	if rerr := os.Remove(file); rerr != nil {
		err = errors.Join(err, fmt.Errorf("look at a snapshot: %w", rerr))
	}
	return after == before+1, err
}
