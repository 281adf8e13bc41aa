package imagestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/containerdapi"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/internal/text"
)

// Namespaces with a meaning.
const (
	NamespaceCRI     = "k8s.io" // of the kubelet
	NamespaceDocker  = "moby"
	NamespaceDefault = "default"
)

// namespaceForm is that of containerd's identifiers, which have up to longestNamespace bytes.
var namespaceForm = regexp.MustCompile(`^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$`)

const longestNamespace = 76

// CheckNamespace returns an error for what cannot be the name of a namespace. containerd
// refuses such a name when it makes something in it; by then a root has been made.
func CheckNamespace(name string) error {
	if len(name) <= longestNamespace && namespaceForm.MatchString(name) {
		return nil
	}
	return fault.WithHint(fault.New(fault.Usage, "containerd can have no namespace %s", text.Printable(name)),
		"a namespace has up to %d letters and digits, with a dot, dash or underscore between them", longestNamespace)
}

// Overlayfs is the snapshotter whose layout of directories is known here.
const Overlayfs = "overlayfs"

const (
	// leaseExpires is how long containerd keeps the content that a killed process has left.
	leaseExpires = 24 * time.Hour
	// cleanupTimeout bounds what is done after the run has ended.
	cleanupTimeout = 30 * time.Second
)

// LeasePrefix begins the names of all leases of fastpull.
const LeasePrefix = "fastpull-"

// Options describe an image store. C, Info and Look are required.
type Options struct {
	C    Containerd
	Info destination.Info
	// Lean stores no blobs of layers, only the snapshots unpacked from them. It is an error
	// in Docker's namespace.
	Lean bool
	// Rebase is set if a snapshot can be given its parent when it is committed.
	Rebase bool
	// Look finds out which directories this process can use, for a run with that lease. It
	// is called once, when an image is brought.
	Look func(ctx context.Context, lease string) (Reach, error)
	// Advice says how to make room on the disk of the snapshots.
	Advice string
}

// Reach describes the access of this process to the directories of a containerd.
type Reach struct {
	Snapshots string // has the snapshots' directories, "" if they are out of reach
	Why       string // they are out of reach
	Root      string // precedes the paths that containerd tells
	User      bool   // mounts of snapshots have the option userxattr
	Content   string // the directory of the content store, "" if it is out of reach
}

// store is an image store that images are brought into.
type store struct {
	run    context.Context // of the whole run: shared work ends with it
	env    *destination.Env
	o      Options
	c      Containerd
	snaps  Snapshots
	rebase atomic.Bool
	lean   bool                     // Options.Lean
	layers destination.Group[*made] // by key

	lease string // "" in a dry run

	looking sync.Mutex
	looked  bool
	reach   Reach       // see prepare
	space   *disk.Space // of the snapshots, nil if they are out of reach
	disk    *disk.Flusher

	litter atomic.Bool // the lease has what no image will have
	named  atomic.Bool // an image has got its names

	publishing, labeling sync.Mutex // images may share documents and layers

	mu     sync.Mutex
	chains map[digest.Digest]wanted // chainID → the layer of the run that makes the snapshot
	blobs  map[digest.Digest]wanted // blob → the layer of the run that fetches it
}

var _ destination.Destination = (*store)(nil)

// Open opens an image store. ctx is that of the whole run. The destination owns o.C, and Open
// closes it if it fails.
func Open(ctx context.Context, env *destination.Env, o Options) (destination.Destination, error) {
	if o.Lean && o.C.Namespace() == NamespaceDocker {
		return nil, errors.Join(errLean, o.C.Close())
	}
	s := &store{
		run: ctx, env: env, o: o, c: o.C, snaps: o.C.Snapshots(), lean: o.Lean,
		chains: make(map[digest.Digest]wanted), blobs: make(map[digest.Digest]wanted),
	}
	s.rebase.Store(o.Rebase)
	s.layers.Drop = func(m *made) { m.abort() }
	if !env.DryRun {
		if err := s.begin(ctx); err != nil {
			return nil, errors.Join(err, o.C.Close())
		}
	}
	return s, nil
}

// errLean is the error of [Options.Lean] for images of Docker, which exports an image without
// its layers and reports no error.
var errLean = fault.WithHint(fault.New(fault.Usage, "--no-content: docker save and docker push would silently leave out the layers"),
	"leave out --no-content, or name another namespace with --namespace")

// begin makes the lease of the run.
func (s *store) begin(ctx context.Context) (err error) {
	if s.lease, err = s.c.CreateLease(ctx, LeasePrefix, leaseExpires); err != nil {
		return fmt.Errorf("create a lease in containerd: %w", err)
	}
	s.c = s.c.Leased(s.lease)
	s.snaps = s.c.Snapshots()
	return nil
}

// prepare finds out how layers are unpacked, once.
func (s *store) prepare(ctx context.Context) (err error) {
	s.looking.Lock()
	defer s.looking.Unlock()
	if s.looked {
		return nil
	}
	if s.reach, err = s.o.Look(ctx, s.lease); err != nil {
		return err
	}
	s.looked = true
	if s.reach.Snapshots == "" {
		s.env.Progress.Note("containerd unpacks the layers itself, from plain tars: %s", s.reach.Why)
		return nil
	}
	s.space = disk.NewSpace(disk.Options{Dir: s.reach.Snapshots, Advice: s.o.Advice})
	s.disk, err = s.env.Flusher(s.reach.Snapshots)
	return err
}

// Info implements [destination.Destination].
func (s *store) Info() destination.Info { return s.o.Info }

// Check implements [destination.Destination].
func (s *store) Check(img *image.Image) error {
	err := image.CheckContainerd(img)
	if err != nil && s.c.Namespace() == NamespaceDocker {
		return fault.WithHint(err, "use --load while the Engine runs: it gets the image with types that it takes")
	}
	return err
}

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
			if s.named.Load() { // the images are complete
				s.env.Progress.Note("%v", err)
				err = nil
			}
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

// Bound returns the directory of a snapshot without a parent, from its mounts.
func Bound(mounts []*containerdapi.Mount) (dir string, ok bool) {
	if len(mounts) != 1 || mounts[0].Type != "bind" || !filepath.IsAbs(mounts[0].Source) {
		return "", false
	}
	return mounts[0].Source, true
}

// Upper returns the directory of a snapshot with a parent, from its mounts.
func Upper(mounts []*containerdapi.Mount) (dir string, ok bool) {
	if len(mounts) != 1 || mounts[0].Type != "overlay" {
		return "", false
	}
	dir, ok = containerdapi.MountOption(mounts[0], "upperdir")
	return dir, ok && filepath.IsAbs(dir)
}

// Above returns the directory that has the directories of all snapshots.
func Above(files string) string { return filepath.Dir(filepath.Dir(files)) }
