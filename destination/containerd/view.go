package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fastpull/fastpull/containerdapi"
)

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
	switch seen, err := s.shared(ctx, key, files); {
	case err != nil:
		return v, err
	case !seen:
		v.why = "what has its snapshots there is another directory here: " + snapshotsDir(files)
		return v, nil
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
	v.dir = snapshotsDir(files)
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

// shared reports whether containerd counts a file that is put into dir, the directory of an
// active snapshot.
func (s *store) shared(ctx context.Context, key, dir string) (bool, error) {
	before, err := s.snaps.Usage(ctx, key)
	if err != nil {
		return false, err
	}
	file := filepath.Join(dir, "fastpull")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return false, nil // it is not there, or not for this process
	}
	after, err := s.snaps.Usage(ctx, key)
	if rerr := os.Remove(file); rerr != nil {
		err = errors.Join(err, fmt.Errorf("look at a snapshot: %w", rerr))
	}
	return after == before+1, err
}
