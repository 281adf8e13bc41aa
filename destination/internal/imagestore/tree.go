package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/containerdapi"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/unpack"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// staged is a layer that is ready to become a snapshot.
type staged interface {
	// fill takes the plain tar of the layer. It is called again, and starts over, if the
	// tar was damaged.
	fill(ctx context.Context, tar io.Reader) error
	// commit makes it the snapshot of its chainID, on its parent, which is there. The error
	// is an AlreadyExists if the snapshot is there.
	commit(context.Context) error
	// abort removes it. It does nothing after a commit without an error.
	abort()
}

// labelRef names the snapshot that something becomes. Remote snapshotters go by it.
const labelRef = "containerd.io/snapshot.ref"

// labels returns the labels of a layer's snapshot.
func labels(l image.Layer) map[string]string {
	return map[string]string{labelRef: l.ChainID.String()}
}

// tree is a layer that is extracted into a staging snapshot.
type tree struct {
	s     *store
	l     image.Layer
	key   string // of the staging snapshot, "" if there is none
	dir   string // its files
	form  *whiteout.Inheriting
	child string // the key of the snapshot on the parent that it moves to
}

// fill implements [staged].
func (t *tree) fill(ctx context.Context, tar io.Reader) error {
	t.abort()
	key := t.s.key(t.l.ChainID)
	mounts, err := t.s.snaps.Prepare(ctx, key, "", nil)
	if err != nil {
		return fmt.Errorf("prepare a snapshot in containerd: %w", err)
	}
	t.key = key
	dir, ok := Bound(mounts)
	dir = t.s.reach.Root + dir
	if !ok || Above(dir) != t.s.reach.Snapshots {
		return fault.New(fault.Failed, "containerd has put a snapshot where no other one is")
	}
	t.dir, t.form = dir, &whiteout.Inheriting{Overlay: whiteout.Overlay{User: t.s.reach.User}}
	var form whiteout.Form = t.form
	if t.l.Parent == "" {
		form = new(whiteout.Deletions) // there is nothing to delete
	}
	stats, err := unpack.Extract(ctx, tar, dir, unpack.ExtractOptions{
		Whiteouts: form, Wrote: t.s.disk.Wrote, Rootless: t.s.env.Rootless(), Names: t.s.env.Names,
	})
	if err == nil {
		t.s.env.LeftOut.Add(stats)
	}
	return err
}

// commit implements [staged].
func (t *tree) commit(ctx context.Context) (err error) {
	l, s := t.l, t.s
	switch {
	case l.Parent == "":
		err = s.snaps.Commit(ctx, l.ChainID.String(), t.key, "", labels(l))
	case s.rebase.Load() && !t.form.Inherits():
		if err = s.snaps.Commit(ctx, l.ChainID.String(), t.key, l.Parent.String(), labels(l)); err == nil {
			err = s.rebased(ctx, l)
		}
	default:
		return t.move(ctx)
	}
	if err == nil {
		t.key = ""
	}
	return err
}

// rebased checks that containerd has given a snapshot its parent. A snapshotter that cannot
// rebase ignores the parent, and containers with such a snapshot would lack files.
func (s *store) rebased(ctx context.Context, l image.Layer) error {
	got, err := s.snaps.Stat(ctx, l.ChainID.String())
	if err != nil {
		return err
	}
	if got.Parent == l.Parent.String() {
		return nil
	}
	s.rebase.Store(false)
	err = fault.WithHint(fault.New(fault.Failed, "containerd says that its snapshotter can rebase, and has committed a snapshot without its parent"), "try again")
	return errors.Join(err, s.snaps.Remove(ctx, l.ChainID.String()))
}

// move commits the layer by way of a snapshot on the parent, to which its directory moves.
func (t *tree) move(ctx context.Context) error {
	s, l := t.s, t.l
	child := s.key(l.ChainID)
	mounts, err := s.snaps.Prepare(ctx, child, l.Parent.String(), labels(l))
	if err != nil {
		return err
	}
	t.child = child
	upper, ok := Upper(mounts)
	upper = s.reach.Root + upper
	if !ok || Above(upper) != s.reach.Snapshots {
		return fault.New(fault.Failed, "containerd has put a snapshot where no other one is")
	}
	if t.form.Inherits() {
		option, _ := containerdapi.MountOption(mounts[0], "lowerdir")
		lowers := strings.Split(option, ":")
		for i := range lowers {
			lowers[i] = s.reach.Root + lowers[i]
		}
		if err := t.form.Inherit(t.dir, lowers); err != nil {
			return fmt.Errorf("look at the layers below: %w", err)
		}
		if err := s.disk.Flush(ctx); err != nil {
			return err
		}
	}
	if err := t.take(upper); err != nil {
		return err
	}
	if err := s.snaps.Commit(ctx, l.ChainID.String(), child, "", labels(l)); err != nil {
		return err
	}
	t.child = ""
	t.abort() // the snapshot that has no files any more
	return nil
}

// take moves the layer's directory to upper, an empty directory, for good.
func (t *tree) take(upper string) error {
	var st unix.Stat_t
	if err := unix.Lstat(upper, &st); err != nil {
		return err
	}
	// The root of a snapshot belongs to the owner of its parent's root.
	if err := os.Lchown(t.dir, int(st.Uid), int(st.Gid)); err != nil && !t.s.env.Rootless() {
		return err
	}
	if err := unix.Rename(t.dir, upper); err != nil {
		return &os.LinkError{Op: "rename", Old: t.dir, New: upper, Err: err}
	}
	if t.s.env.NoSync {
		return nil
	}
	parent, err := os.Open(filepath.Dir(upper))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// abort implements [staged].
func (t *tree) abort() {
	ctx, cancel := t.s.after()
	defer cancel()
	for _, key := range []*string{&t.child, &t.key} {
		if *key == "" {
			continue
		}
		if err := t.s.snaps.Remove(ctx, *key); err == nil || errdefs.IsNotFound(err) {
			*key = "" // otherwise the lease is what removes it
		}
	}
}
