package containerdapi

import (
	"context"
	"strings"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
)

// Snapshots are the snapshots of one snapshotter, in the namespace of its client.
type Snapshots struct {
	c    *Client
	name string
	api  snapshotsapi.SnapshotsClient
}

// Snapshots returns the snapshots of a snapshotter.
func (c *Client) Snapshots(snapshotter string) *Snapshots {
	return &Snapshots{c, snapshotter, snapshotsapi.NewSnapshotsClient(c.conn)}
}

// Name returns the name of the snapshotter.
func (s *Snapshots) Name() string { return s.name }

// Mount is a mount that shows a snapshot.
type Mount = types.Mount

// MountOption returns the value of an option of a mount, such as upperdir.
func MountOption(m *Mount, name string) (value string, ok bool) {
	for _, o := range m.Options {
		if key, value, _ := strings.Cut(o, "="); key == name {
			return value, true
		}
	}
	return "", false
}

// Snapshot describes a snapshot of containerd.
type Snapshot struct {
	Parent    string
	Committed bool
}

// Stat describes a snapshot. The error for a snapshot that does not exist is a NotFound.
func (s *Snapshots) Stat(ctx context.Context, key string) (Snapshot, error) {
	answer, err := call(ctx, s.c, s.api.Stat, &snapshotsapi.StatSnapshotRequest{Snapshotter: s.name, Key: key})
	if err != nil {
		return Snapshot{}, err
	}
	return Snapshot{answer.Info.Parent, answer.Info.Kind == snapshotsapi.Kind_COMMITTED}, nil
}

// Prepare makes an active snapshot on a parent, or on nothing if that is "". Once begun, it
// is not cancelled with ctx: containerd 1.6 would leave the snapshot's directory without a
// name in its database, where no lease removes it.
func (s *Snapshots) Prepare(ctx context.Context, key, parent string, labels map[string]string) ([]*Mount, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ctx = context.WithoutCancel(ctx)
	answer, err := call(ctx, s.c, s.api.Prepare, &snapshotsapi.PrepareSnapshotRequest{Snapshotter: s.name, Key: key, Parent: parent, Labels: labels})
	if err != nil {
		return nil, err
	}
	return answer.Mounts, nil
}

// Commit makes an active snapshot a committed one with a name. If parent is not "", it becomes
// the parent of a snapshot that was prepared without one. Only a snapshotter with the capability
// rebase does that. Others ignore the parent.
//
// Containerd counts all files of the snapshot before it answers. As with Prepare, a call that
// has begun is not cancelled.
func (s *Snapshots) Commit(ctx context.Context, name, key, parent string, labels map[string]string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx = context.WithoutCancel(ctx)
	_, err := callFor(ctx, s.c, s.c.stall, s.api.Commit, &snapshotsapi.CommitSnapshotRequest{Snapshotter: s.name, Name: name, Key: key, Parent: parent, Labels: labels})
	return err
}

// Remove removes a snapshot and its files.
func (s *Snapshots) Remove(ctx context.Context, key string) error {
	_, err := callFor(ctx, s.c, s.c.stall, s.api.Remove, &snapshotsapi.RemoveSnapshotRequest{Snapshotter: s.name, Key: key})
	return err
}

// Usage returns how many inodes the files of a snapshot take.
func (s *Snapshots) Usage(ctx context.Context, key string) (inodes int64, err error) {
	answer, err := call(ctx, s.c, s.api.Usage, &snapshotsapi.UsageRequest{Snapshotter: s.name, Key: key})
	if err != nil {
		return 0, err
	}
	return answer.Inodes, nil
}

// Lease adds a snapshot to the client's lease: the garbage collection leaves it and its
// parents.
func (s *Snapshots) Lease(ctx context.Context, key string) error {
	return s.c.addResource(ctx, "snapshots/"+s.name, key)
}
