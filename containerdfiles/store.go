package containerdfiles

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
)

// Store is a namespace of a root. It is safe for concurrent use.
type Store struct {
	r         *Root
	namespace string
	lease     string
}

// In returns a namespace of the root.
func (r *Root) In(namespace string) *Store { return &Store{r: r, namespace: namespace} }

// Leased returns a Store that adds what it makes to a lease.
func (s *Store) Leased(lease string) *Store { return &Store{s.r, s.namespace, lease} }

// Namespace returns the name of the namespace.
func (s *Store) Namespace() string { return s.namespace }

// Close closes the whole root.
func (s *Store) Close() error { return s.r.Close() }

// in returns the context of a call, with the namespace and the lease as containerd's packages
// look for them.
func (s *Store) in(ctx context.Context) context.Context {
	ctx = namespaces.WithNamespace(ctx, s.namespace)
	if s.lease != "" {
		ctx = leases.WithLease(ctx, s.lease)
	}
	return ctx
}

func (s *Store) leases() leases.Manager { return metadata.NewLeaseManager(s.r.meta) }

// CreateLease makes a lease that expires, with a name of its own, and returns the name.
func (s *Store) CreateLease(ctx context.Context, prefix string, expires time.Duration) (string, error) {
	l, err := s.leases().Create(s.in(ctx), leases.WithID(prefix+rand.Text()), leases.WithExpiration(expires))
	return l.ID, err
}

// DeleteLease deletes a lease, and those of dead processes. With sync, or if something was
// removed, what no image, lease or container has is gone when it returns.
func (s *Store) DeleteLease(ctx context.Context, id string, sync bool) error {
	all := append(s.r.stale, lease{s.namespace, id})
	sync = sync || len(all) > 1 || s.r.dirty.Load()
	for _, l := range all {
		err := s.leases().Delete(namespaces.WithNamespace(ctx, l.namespace), leases.Lease{ID: l.id})
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	s.r.stale = nil
	if !sync {
		return nil
	}
	return s.r.collect(ctx)
}

// collect removes what no image, lease or container has.
func (r *Root) collect(ctx context.Context) error {
	if _, err := r.meta.GarbageCollect(ctx); err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	r.dirty.Store(false)
	return nil
}

// sweep finds the leases of dead processes, and removes the snapshots of them that were not
// committed. The blobs stay, for this process to go on with.
func (r *Root) sweep(ctx context.Context, prefix string) error {
	if prefix == "" {
		return nil
	}
	var all []string
	err := r.meta.View(func(tx *bolt.Tx) (err error) {
		all, err = metadata.NewNamespaceStore(tx).List(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for _, namespace := range all {
		s := r.In(namespace)
		list, err := s.leases().List(s.in(ctx))
		if err != nil {
			return err
		}
		for _, l := range list {
			if !strings.HasPrefix(l.ID, prefix) {
				continue
			}
			if err := s.removeStaged(ctx, l); err != nil {
				return err
			}
			r.stale = append(r.stale, lease{namespace, l.ID})
		}
	}
	if len(r.stale) == 0 {
		return nil
	}
	if err := r.clean(ctx); err != nil {
		return err
	}
	if err := r.In(r.stale[0].namespace).touch(ctx); err != nil {
		return err
	}
	return r.collect(ctx)
}

// clean removes directories that the snapshotter's database does not name. A process that is
// killed leaves one when it has made it, and not entered it. It is in the way of the next
// snapshot, which gets its number.
func (r *Root) clean(ctx context.Context) error {
	c, ok := r.overlay.(snapshots.Cleaner)
	if !ok {
		return nil
	}
	err := c.Cleanup(ctx)
	if !errdefs.IsNotFound(err) {
		return err
	}
	// The database has not had a snapshot yet.
	if err := os.RemoveAll(r.Snapshots()); err != nil {
		return err
	}
	return os.Mkdir(r.Snapshots(), 0o700)
}

// touch makes a snapshot and removes it. Only then the garbage collection looks for snapshots
// without an entry in containerd's database, as a process leaves that is killed between the
// removal of the entry and the collection.
func (s *Store) touch(ctx context.Context) error {
	key := "fastpull-" + rand.Text()
	if _, err := s.Snapshots().Prepare(ctx, key, "", nil); err != nil {
		return err
	}
	return s.Snapshots().Remove(ctx, key)
}

// removeStaged removes the snapshots of a lease that were not committed.
func (s *Store) removeStaged(ctx context.Context, l leases.Lease) error {
	list, err := s.leases().ListResources(s.in(ctx), l)
	if err != nil {
		return err
	}
	for _, resource := range list {
		if resource.Type != "snapshots/"+snapshotter {
			continue
		}
		info, err := s.Snapshots().Stat(ctx, resource.ID)
		if err == nil && info.Committed {
			continue
		}
		// One that was committed at the moment of the kill may be gone from the snapshotter.
		if err := s.Snapshots().Remove(ctx, resource.ID); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// SetImages gives an image its names, whatever they led to before, all at once. Labels of a
// name that are not among labels stay.
func (s *Store) SetImages(ctx context.Context, names []string, target ocispec.Descriptor, labels map[string]string) error {
	return s.r.meta.Update(func(tx *bolt.Tx) error {
		ctx := boltutil.WithTransaction(s.in(ctx), tx)
		for _, name := range names {
			if err := s.setImage(ctx, images.Image{Name: name, Target: target, Labels: labels}); err != nil {
				return fmt.Errorf("give the image the name %s: %w", name, err)
			}
		}
		return nil
	})
}

// setImage writes a name, unless it is as it should be.
func (s *Store) setImage(ctx context.Context, img images.Image) error {
	api := metadata.NewImageStore(s.r.meta)
	have, err := api.Get(ctx, img.Name)
	if errdefs.IsNotFound(err) {
		_, err = api.Create(ctx, img)
		return err
	}
	if err != nil {
		return err
	}
	var paths []string
	if have.Target.Digest != img.Target.Digest {
		paths = append(paths, "target")
	}
	for name, value := range img.Labels {
		if have.Labels[name] != value {
			paths = append(paths, "labels."+name)
		}
	}
	if len(paths) > 0 {
		_, err = api.Update(ctx, img, paths...)
	}
	return err
}
