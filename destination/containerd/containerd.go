package containerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/containerdapi"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
)

const (
	// leaseExpires is how long containerd keeps what a killed process has left.
	leaseExpires = 24 * time.Hour
	// cleanupTimeout bounds what is done after the run has ended.
	cleanupTimeout = 30 * time.Second
)

// store is a containerd that images are brought into.
type store struct {
	run    context.Context // of the whole run: shared work ends with it
	env    *destination.Env
	c      *containerdapi.Client
	snaps  *containerdapi.Snapshots
	rebase atomic.Bool
	lean   bool                     // store no blobs of layers: Options.NoContent
	layers destination.Group[*made] // by key

	lease string // "" in a dry run

	plugins containerdapi.Plugins
	looking sync.Mutex
	view    view        // see prepare
	content string      // the directory of the content store, "" if it is out of reach
	space   *disk.Space // of the snapshots, nil if they are out of reach
	disk    *disk.Flusher

	litter atomic.Bool // the lease has what no image will have

	publishing, labeling sync.Mutex // images may share documents and layers

	mu     sync.Mutex
	chains map[digest.Digest]wanted // chainID → the layer of the run that makes the snapshot
	blobs  map[digest.Digest]wanted // blob → the layer of the run that fetches it
}

var _ destination.Destination = (*store)(nil)

// Open connects to containerd. The error wraps [containerdapi.ErrUnavailable] if none
// answers.
func Open(ctx context.Context, env *destination.Env, o Options) (destination.Destination, error) {
	c, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	in, snaps, plugins, err := place(ctx, c, o)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if o.NoContent && in.Namespace() == namespaceDocker {
		return nil, errors.Join(errNoContent, c.Close())
	}
	s := &store{
		run: ctx, env: env, c: in, snaps: snaps, plugins: plugins, lean: o.NoContent,
		chains: make(map[digest.Digest]wanted), blobs: make(map[digest.Digest]wanted),
	}
	s.rebase.Store(snaps.Name() == overlayfs && plugins.Snapshotters[snaps.Name()].Has("rebase"))
	s.layers.Drop = func(m *made) { m.abort() }
	if !env.DryRun {
		if err := s.begin(ctx); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return s, nil
}

// errNoContent is the error of [Options.NoContent] for images of Docker, which exports an
// image without its layers and reports no error.
var errNoContent = fault.WithHint(fault.New(fault.Usage, "--no-content: docker save and docker push would silently leave out the layers"),
	"leave out --no-content, or name another namespace with --namespace")

// begin makes the lease of the run.
func (s *store) begin(ctx context.Context) (err error) {
	if s.lease, err = s.c.CreateLease(ctx, "fastpull-", leaseExpires); err != nil {
		return fmt.Errorf("create a lease in containerd: %w", err)
	}
	s.c = s.c.Leased(s.lease)
	s.snaps = s.c.Snapshots(s.snaps.Name())
	return nil
}

// prepare finds out how layers are unpacked, once.
func (s *store) prepare(ctx context.Context) (err error) {
	s.looking.Lock()
	defer s.looking.Unlock()
	if s.view.known {
		return nil
	}
	if s.view, err = s.look(ctx); err != nil {
		return fmt.Errorf("look at the snapshots of containerd: %w", err)
	}
	if s.content, err = s.findContent(ctx, s.plugins.Content.Root); err != nil {
		return err
	}
	if s.view.dir == "" {
		s.env.Progress.Note("containerd unpacks the layers itself, from plain tars: %s", s.view.why)
		return nil
	}
	s.space = disk.NewSpace(disk.Options{Dir: s.view.dir, Advice: "make room there, or remove images (ctr images rm)"})
	s.disk, err = s.env.Flusher(s.view.dir)
	return err
}

// Info implements [destination.Destination].
func (s *store) Info() destination.Info {
	return destination.Info{
		Name:     fmt.Sprintf("containerd %s at %s, namespace %s", s.c.Version(), s.c.Address(), s.c.Namespace()),
		Platform: image.Host(),

		PartialDir: s.partialDir(),
	}
}

// Check implements [destination.Destination].
func (s *store) Check(*image.Image) error { return nil }

// Finish implements [destination.Destination]. What was committed is durable: containerd
// writes its databases and blobs to the disk before it answers, and the files of the
// snapshots were flushed before.
func (s *store) Finish(context.Context) error { return nil }

// Close implements [destination.Destination].
func (s *store) Close() error {
	s.layers.Wait()
	for _, m := range s.layers.Values() {
		m.abort()
	}
	var err error
	if s.lease != "" {
		ctx, cancel := s.after()
		defer cancel()
		// What no image has is to be gone when the process ends. Otherwise containerd need
		// not be waited for.
		if err = s.c.DeleteLease(ctx, s.lease, s.litter.Load()); err != nil {
			err = fmt.Errorf("delete lease %s in containerd, which expires within %v: %w", s.lease, leaseExpires, err)
		}
	}
	return errors.Join(err, s.disk.Close(), s.c.Close())
}

// after returns a context for what has to be done even if the run was cancelled.
func (s *store) after() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(s.run), cleanupTimeout)
}

// key returns a name for a snapshot of this run.
func (s *store) key(chainID digest.Digest) string {
	return fmt.Sprintf("extract-%d-%s %s", time.Now().Nanosecond(), cmp.Or(s.lease, "fastpull"), chainID)
}

// snapshotsDir returns the directory that has the directories of all snapshots.
func snapshotsDir(files string) string { return filepath.Dir(filepath.Dir(files)) }
