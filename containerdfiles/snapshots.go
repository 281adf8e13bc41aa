package containerdfiles

import (
	"context"

	"github.com/containerd/containerd/v2/core/snapshots"

	"github.com/fastpull/fastpull/containerdapi"
)

// Snapshots are the snapshots of a namespace.
type Snapshots struct{ s *Store }

// Snapshots returns the snapshots of the namespace.
func (s *Store) Snapshots() *Snapshots { return &Snapshots{s} }

func (s *Snapshots) api() snapshots.Snapshotter { return s.s.r.meta.Snapshotter(snapshotter) }

// Name returns the name of the snapshotter.
func (s *Snapshots) Name() string { return snapshotter }

// Stat describes a snapshot. The error for a snapshot that does not exist is a NotFound.
func (s *Snapshots) Stat(ctx context.Context, key string) (containerdapi.Snapshot, error) {
	info, err := s.api().Stat(s.s.in(ctx), key)
	return containerdapi.Snapshot{Parent: info.Parent, Committed: info.Kind == snapshots.KindCommitted}, err
}

// Prepare makes an active snapshot on a parent, or on nothing if that is "". Once begun, it
// is not cancelled with ctx.
func (s *Snapshots) Prepare(ctx context.Context, key, parent string, labels map[string]string) ([]*containerdapi.Mount, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	mounts, err := s.api().Prepare(s.s.in(context.WithoutCancel(ctx)), key, parent, snapshots.WithLabels(labels))
	if err != nil {
		return nil, err
	}
	list := make([]*containerdapi.Mount, len(mounts))
	for i, m := range mounts {
		list[i] = &containerdapi.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	}
	return list, nil
}

// Commit makes an active snapshot a committed one, called name. A parent that is not "" is
// given to a snapshot that was prepared on nothing. All files are counted meanwhile. As with
// Prepare, the call is not cancelled once it has begun.
func (s *Snapshots) Commit(ctx context.Context, name, key, parent string, labels map[string]string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.api().Commit(s.s.in(context.WithoutCancel(ctx)), name, key, snapshots.WithLabels(labels), snapshots.WithParent(parent))
}

// Remove removes a snapshot. Its files go when the lease is deleted.
func (s *Snapshots) Remove(ctx context.Context, key string) error {
	err := s.api().Remove(s.s.in(ctx), key)
	if err == nil {
		s.s.r.dirty.Store(true)
	}
	return err
}

// Lease does nothing: no garbage is collected before the lease is deleted.
func (s *Snapshots) Lease(context.Context, string) error { return nil }
