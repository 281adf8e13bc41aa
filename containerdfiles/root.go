package containerdfiles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/fastpull/fastpull/internal/safepath"
)

// The names of containerd's plugins are those of their directories.
const (
	contentDir  = "io.containerd.content.v1.content"
	databaseDir = "io.containerd.metadata.v1.bolt"
	overlayDir  = "io.containerd.snapshotter.v1.overlayfs"
	snapshotter = "overlayfs"
)

// lockTimeout is how long [Open] waits for another process. One that has the root open has it
// for as long as it runs.
const lockTimeout = time.Second

// Options say how a root is opened. The zero value works.
type Options struct {
	// NoSync leaves changes to the kernel: they are lost, and the databases may be damaged,
	// after a power failure.
	NoSync bool
	// ReadOnly changes nothing. A root that is not there is an [fs.ErrNotExist].
	ReadOnly bool
	// Lease begins the names of leases whose process is dead, since the root is not in use.
	// What their snapshots hold that was not committed is removed by Open, and the rest by
	// [Store.DeleteLease].
	Lease string
}

// Root is an open root. It is safe for concurrent use.
type Root struct {
	dir     string        // for messages
	handle  *safepath.Dir // the directory, of a root that is open for changes
	at      string        // leads to the directory; "" is dir
	db      *bolt.DB
	meta    *metadata.DB
	overlay snapshots.Snapshotter
	stale   []lease     // of dead processes
	dirty   atomic.Bool // something was removed that the garbage collection has to clean up
}

// lease is the name of a lease.
type lease struct{ namespace, id string }

// Open opens the root at dir. If another process has it open the error is an [InUse].
func Open(ctx context.Context, dir string, o Options) (*Root, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	r := &Root{dir: dir}
	if o.ReadOnly {
		err = r.read()
	} else {
		err = r.write(ctx, o)
	}
	if err == nil {
		return r, nil
	}
	err = fmt.Errorf("open the root of containerd %s: %w", dir, err)
	if cerr := r.Close(); cerr != nil {
		err = errors.Join(err, cerr)
	}
	return nil, err
}

// Dir returns the absolute path of the root.
func (r *Root) Dir() string { return r.dir }

// Content returns the directory of the content store.
func (r *Root) Content() string { return r.path(contentDir) }

// Snapshots returns the directory that has those of the snapshots.
func (r *Root) Snapshots() string { return r.path(overlayDir, "snapshots") }

func (r *Root) path(elem ...string) string {
	return filepath.Join(append([]string{cmp.Or(r.at, r.dir)}, elem...)...)
}

// Close closes the root.
func (r *Root) Close() error {
	var err error
	if r.overlay != nil {
		err = r.overlay.Close()
	}
	if r.db != nil {
		err = errors.Join(err, r.db.Close())
	}
	if r.handle != nil {
		err = errors.Join(err, r.handle.Close())
	}
	return err
}

// take opens the directory of the root, and makes it if it is not there. Only trusted users may
// be able to write to it.
func (r *Root) take() (err error) {
	if err := safepath.Makeable(r.dir); err != nil {
		return err
	}
	if r.handle, err = safepath.Make(r.dir, 0o700); err != nil {
		return err
	}
	if err := r.handle.Own(); err != nil {
		return err
	}
	if !r.handle.Settled() {
		r.at, err = r.handle.Path()
	}
	return err
}

// write opens the root for changes, with the options that containerd opens it with. The lock
// of the database comes first: without it nothing else may be touched.
func (r *Root) write(ctx context.Context, o Options) error {
	if err := r.take(); err != nil {
		return err
	}
	if err := os.MkdirAll(r.path(databaseDir), 0o711); err != nil {
		return err
	}
	options := *bolt.DefaultOptions
	options.NoFreelistSync, options.NoSync = true, o.NoSync
	if err := r.lock(0o644, options); err != nil {
		return err
	}
	cs, err := local.NewStore(r.Content())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.path(overlayDir), 0o700); err != nil {
		return err
	}
	ms, err := storage.NewMetaStore(r.path(overlayDir, "metadata.db"), func(b *bolt.Options) error {
		b.NoSync, b.Timeout = o.NoSync, lockTimeout
		return nil
	})
	if err != nil {
		return err
	}
	// Removed directories go with the garbage collection, as in containerd.
	if r.overlay, err = overlay.NewSnapshotter(r.path(overlayDir), overlay.WithMetaStore(ms), overlay.AsynchronousRemove); err != nil {
		return errors.Join(err, ms.Close())
	}
	r.open(cs)
	if err := r.meta.Init(ctx); err != nil {
		return err
	}
	if err := r.sweep(ctx, o.Lease); err != nil {
		return fmt.Errorf("remove what a killed process has left: %w", err)
	}
	return nil
}

// read opens the root to look at it. The packages of containerd would write in it.
func (r *Root) read() error {
	database := r.path(overlayDir, "metadata.db")
	if _, err := os.Stat(database); err != nil {
		return err
	}
	if err := r.lock(0, bolt.Options{ReadOnly: true}); err != nil {
		return err
	}
	ms, err := storage.NewMetaStore(database, func(b *bolt.Options) error {
		b.ReadOnly, b.Timeout = true, lockTimeout
		return nil
	})
	if err != nil {
		return err
	}
	r.overlay = lookOnly{ms: ms}
	r.open(blobs{dir: r.Content()})
	return nil
}

// lock opens containerd's database. Its lock is that of the whole root.
func (r *Root) lock(mode fs.FileMode, o bolt.Options) (err error) {
	path := r.path(databaseDir, "meta.db")
	o.Timeout = lockTimeout
	r.db, err = bolt.Open(path, mode, &o)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return inUse(path)
	}
	return err
}

func (r *Root) open(cs content.Store) {
	r.meta = metadata.NewDB(r.db, cs, map[string]snapshots.Snapshotter{snapshotter: r.overlay})
}
