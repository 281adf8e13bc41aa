package overlay

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/internal/safepath"
	"github.com/fastpull/fastpull/internal/tmpfile"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// Store is a store that is open for writing. It is safe for concurrent use, but
// see [Store.Begin].
type Store struct {
	Reader
	root  *safepath.Dir // the directory of the store
	runs  *safepath.Dir // fastpull/run
	locks *lockFile
	run   *tmpfile.Dir // what this process works on; see folder

	inside *os.File // fastpull/run, locked; see takeBack

	above []string // directories that this process made: the root and those above it
	made  []string // and those in the root

	opaque  whiteout.Overlay // how layers keep what they delete
	decided bool             // by this process

	// lists is held by the goroutine that changes which layers, images and names
	// there are: the lock between processes does not tell goroutines apart.
	lists chan struct{}

	durable durable

	beats sync.WaitGroup // the goroutine that shows that this process lives
	stop  chan struct{}  // ends it
}

// Reader is a store that is only looked at. It needs no locks: all that it can
// see is complete.
type Reader struct {
	dir  string  // for messages
	at   string  // leads to the store; "" is dir
	base *Reader // of a staging store: the data-root that it is for
}

// Dir returns the root of the store.
func (r *Reader) Dir() string { return r.dir }

// OpenReader opens the store at dir for reading. It is an error of kind
// [fault.NotFound] if there is none.
func OpenReader(dir string) (*Reader, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	r := &Reader{dir: dir, base: baseOf(dir)}
	_, err = os.Stat(r.path("image/overlay2"))
	if errors.Is(err, unix.ENOTDIR) {
		if err = fs.ErrNotExist; isFile(dir) {
			err = fault.WithHint(fault.New(fault.Usage, "%s is not a directory", dir), nameStore)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.WithHint(fault.New(fault.NotFound, "there is no store at %s", dir), nameStore)
	}
	if err != nil {
		return nil, failed("open", dir, err)
	}
	return r, nil
}

// nameStore is a hint.
const nameStore = "name the directory that was pulled into with --store"

func isFile(name string) bool {
	st, err := os.Stat(name)
	return err == nil && !st.IsDir()
}

// failed adds to an error what was being done with the store at dir. It adds dir unless the
// error names it.
func failed(doing, dir string, err error) error {
	err = denied(err)
	if strings.Contains(err.Error(), dir) {
		return fmt.Errorf("%s the store: %w", doing, err)
	}
	return fmt.Errorf("%s the store %s: %w", doing, dir, err)
}

func (r *Reader) path(elem ...string) string {
	return filepath.Join(append([]string{cmp.Or(r.at, r.dir)}, elem...)...)
}

// folders are what a store has, outer ones first.
var folders = []struct {
	name string
	mode fs.FileMode
}{
	{"fastpull", 0o700}, {"fastpull/run", 0o700}, {"fastpull/pending", 0o700},
	{"overlay2", 0o710}, {"overlay2/l", 0o700},
	{"image", 0o700}, {"image/overlay2", 0o700},
	{"image/overlay2/layerdb", 0o700}, {"image/overlay2/layerdb/sha256", 0o755},
	{"image/overlay2/imagedb", 0o700},
	{"image/overlay2/imagedb/content", 0o700}, {"image/overlay2/imagedb/content/sha256", 0o700},
	{"image/overlay2/imagedb/metadata", 0o700}, {"image/overlay2/imagedb/metadata/sha256", 0o700},
	{"image/overlay2/distribution", 0o700},
	{"image/overlay2/distribution/diffid-by-digest", 0o755}, {"image/overlay2/distribution/diffid-by-digest/sha256", 0o755},
	{"image/overlay2/distribution/v2metadata-by-diffid", 0o755}, {"image/overlay2/distribution/v2metadata-by-diffid/sha256", 0o755},
}

// Options say how a store is opened for writing. The zero value works.
type Options struct {
	// NoSync lets Commit, Sync and Close return while files are still on their way to
	// the disk. After a power failure, layers can have files that are empty.
	NoSync bool
	// Progress shows a long wait for the disk; nil shows nothing.
	Progress *progress.Display
	// Waiting is called once, by another goroutine, if another process has the whole store for
	// a while, so that it cannot be opened; nil is fine.
	Waiting func()
}

// Open opens the store at dir for writing, and creates it if it does not exist. It removes what
// dead processes have left. It refuses a root that must not be written to, and a file system
// that cannot have a store. If it fails, it removes everything that it has created. The end of ctx
// ends only the wait for another process that has the whole store; see [Staging.Prepare].
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, dir, o, false)
	if err != nil {
		return nil, failed("open", dir, err)
	}
	return s, nil
}

// OpenToRemove opens the store at dir as [Open] does, for [Store.Remove] alone. It needs
// no space: the file system may be full.
func OpenToRemove(ctx context.Context, dir string) (*Store, error) {
	r, err := OpenReader(dir)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, r.dir, Options{NoSync: true}, true)
	if err != nil {
		return nil, failed("open", r.dir, err)
	}
	return s, nil
}

// open is Open or OpenToRemove, of an absolute path, with an error that does not say
// what was done.
func open(ctx context.Context, dir string, o Options, toRemove bool) (*Store, error) {
	if o.Waiting != nil {
		o.Waiting = sync.OnceFunc(o.Waiting)
	}
	const tries = 10
	for n := 1; ; n++ {
		s, err := openOnce(ctx, dir, o, toRemove)
		if n == tries || !errors.Is(err, errTakenBack) && !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		// Another process has removed its store while this one went into it.
	}
}

func openOnce(ctx context.Context, dir string, o Options, toRemove bool) (_ *Store, err error) {
	s := &Store{Reader: Reader{dir: dir, base: baseOf(dir)}, lists: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	ensure := func(name string, mode fs.FileMode) error {
		created, err := ensureDir(name, mode)
		if created {
			s.made = append(s.made, name)
		}
		return err
	}
	if err := s.takeRoot(dir, &s.above); err != nil {
		return nil, err
	}
	if err := refuse(dir); err != nil {
		return nil, err
	}
	for _, d := range folders {
		if err := ensure(s.path(d.name), d.mode); err != nil {
			return nil, err
		}
	}
	if err := s.oneFileSystem(); err != nil {
		return nil, err
	}
	if err := s.ownFolders(); err != nil {
		return nil, err
	}
	if s.runs, err = safepath.Open(s.path("fastpull/run")); err != nil {
		return nil, err
	}
	if err := s.enter(ctx, o.Waiting); err != nil {
		return nil, err
	}
	me := privilege.Current()
	if _, err := s.fits(me); err != nil && !errors.Is(err, errUndecided) {
		return nil, err
	}
	// What processes have left that are gone may be the space that the rest takes.
	if err := tmpfile.SweepDirs(s.runs, ""); err != nil {
		return nil, err
	}
	if !o.NoSync {
		if s.durable.disk, err = disk.NewFlusher(s.path(), o.Progress); err != nil {
			return nil, err
		}
	}
	if !toRemove {
		folder, err := s.folder()
		if err != nil {
			return nil, err
		}
		if err := probe(folder, !me.Trusted); err != nil {
			return nil, err
		}
	}
	if s.locks, err = openLockFile(s.path("fastpull/lock")); err != nil {
		return nil, err
	}
	if toRemove {
		// The folder shows that the process lives. A removal can do without it.
		if _, err := s.folder(); err != nil && !disk.Full(err) {
			return nil, err
		}
	} else if err := s.settle(me); err != nil {
		return nil, err
	}
	if err := s.sweep(); err != nil && !(toRemove && disk.Full(err)) {
		return nil, err
	}
	return s, nil
}

// Sync returns when the names of all images that were put are on the disk. Layers are
// there since they were committed. The end of ctx ends the wait and is no error.
func (s *Store) Sync(ctx context.Context) error { return s.durable.names(ctx) }

// folder returns the path of this process' folder in run/. [Open] makes it. So does
// [OpenToRemove], unless the disk is full: then it is made when it is needed first, if there is
// space.
func (s *Store) folder() (string, error) {
	if s.run == nil {
		run, err := tmpfile.NewDir(s.runs, "")
		if err != nil {
			return "", err
		}
		s.live(run)
	}
	return s.run.Path, nil
}

// live makes run this process' folder, and shows by it that the process lives.
func (s *Store) live(run *tmpfile.Dir) {
	s.run, s.stop = run, make(chan struct{})
	s.beats.Go(func() { s.beat(run.Path, s.stop) })
}

// rest ends what live began.
func (s *Store) rest() {
	if s.stop != nil {
		close(s.stop)
		s.beats.Wait()
		s.stop = nil
	}
}

// Close removes what this process has been working on. Layers that are not committed are
// gone, and so is a store that this process made, if nothing was stored. Close waits for
// the disk as Sync does, without an end, if Sync was not called.
func (s *Store) Close() error {
	err := s.Sync(context.Background())
	s.rest()
	if s.run != nil {
		err = errors.Join(err, s.run.Remove())
	}
	s.takeBack()
	if s.locks != nil {
		err = errors.Join(err, s.locks.close())
	}
	err = errors.Join(err, s.durable.disk.Close())
	for _, d := range []*safepath.Dir{s.runs, s.root} {
		if d != nil {
			err = errors.Join(err, d.Close())
		}
	}
	return err
}

// takeRoot opens the directory of the store, and makes it if it is not there. Only
// trusted users may be able to write to it. As dockerd does with its data-root, it
// takes that right from others, unless there is a store already: they may have used it.
func (s *Store) takeRoot(dir string, made *[]string) error {
	above, err := safepath.Make(filepath.Dir(dir), 0o755)
	if err != nil {
		return err
	}
	*made = above.Made()
	above.Close()
	if s.root, err = safepath.Make(dir, 0o710); err != nil {
		if isFile(dir) {
			return fault.New(fault.Usage, "%s is not a directory", dir)
		}
		return err
	}
	*made = append(*made, s.root.Made()...)
	if len(s.root.Made()) > 0 {
		err = s.root.Chmod(0o710) // whatever the umask
	}
	if err == nil && !s.root.Settled() {
		s.at, err = s.root.Path()
	}
	if err != nil {
		return err
	}
	if err := ours(s.root); err != nil {
		return err
	}
	return s.root.Withdraw()
}

// ownFolders makes sure that only trusted users may write to the folders.
func (s *Store) ownFolders() error {
	for _, f := range folders {
		d, err := safepath.Open(s.path(f.name))
		if err != nil {
			return err
		}
		if err := errors.Join(d.Own(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}

// ours returns an error if the directory must not become a store, or must not be one,
// because of the users that may write to it.
func ours(root *safepath.Dir) error {
	if _, err := root.Lstat("image"); err != nil && root.Trusted() {
		return nil // no store yet, and it can be taken from the others
	}
	return root.Own()
}

// Root returns a path that leads to the store while it is open, whatever other users
// do on the way to it.
func (s *Store) Root() string { return s.path() }

// oneFileSystem returns an error if a rename cannot move staged layers into Docker's folders.
func (s *Store) oneFileSystem() error {
	var dev uint64
	for i, name := range []string{"fastpull", "overlay2", "image/overlay2/layerdb"} {
		var st unix.Stat_t
		if err := unix.Stat(s.path(name), &st); err != nil {
			return err
		}
		if i == 0 {
			dev = uint64(st.Dev) //nolint:unconvert // 32 bit on some platforms
		} else if uint64(st.Dev) != dev { //nolint:unconvert // see above
			return fault.WithHint(fault.New(fault.Failed, "%s is another file system than the root", s.path(name)),
				"load into that Docker while it runs (--load), or choose another directory")
		}
	}
	return nil
}

// mkdir creates a directory, unless it is there, with a mode that the umask has
// no part in.
func mkdir(name string, mode fs.FileMode) error {
	_, err := ensureDir(name, mode)
	return err
}

// ensureDir is mkdir, and reports whether it created the directory.
func ensureDir(name string, mode fs.FileMode) (created bool, err error) {
	err = os.Mkdir(name, mode)
	if errors.Is(err, fs.ErrExist) {
		st, serr := os.Stat(name)
		if serr == nil && st.IsDir() {
			return false, nil
		}
		if serr == nil {
			return false, fault.New(fault.Usage, "%s is not a directory", name)
		}
	}
	if err != nil {
		return false, err
	}
	return true, os.Chmod(name, mode)
}

// writeFile writes a file as a whole or not at all, by way of this process' own
// folder.
func (s *Store) writeFile(name string, mode fs.FileMode, data []byte) error {
	folder, err := s.folder()
	if err != nil {
		return err
	}
	tmp := filepath.Join(folder, randomID(8))
	if err := writeNew(tmp, mode, data); err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}

func writeNew(name string, mode fs.FileMode, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}

// randomID returns n random bytes in hex.
func randomID(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// denied gives errors of missing rights their kind and a hint.
func denied(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fault.WithHint(fault.Wrap(fault.Denied, err), "run fastpull as root, or choose a directory of your own with --store")
	}
	return err
}

// patience is how long a wait for the lists may take before the user is told.
const patience = time.Second

// lockLists waits until no other goroutine or process changes the lists. The caller must call
// unlock. waiting is called once, by another goroutine, if that takes a while; nil is fine.
func (s *Store) lockLists(ctx context.Context, waiting func()) (unlock func(), err error) {
	if waiting != nil {
		defer time.AfterFunc(patience, waiting).Stop()
	}
	select {
	case s.lists <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := s.locks.lock(ctx, namesLock, nil, s.pulse()); err != nil {
		<-s.lists
		return nil, err
	}
	return func() {
		s.locks.unlock(namesLock)
		<-s.lists
	}, nil
}

// stillOurs is asked before anything becomes visible: a dockerd may have been
// started since Open.
func (s *Store) stillOurs(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return refuseRunning(s.dir)
}
