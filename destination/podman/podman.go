//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/internal/safepath"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// Default is the graph root that Podman itself would use.
const Default = "default"

// driver is the only one whose layers can be staged.
const driver = "overlay"

// store is a store that images are brought into.
type store struct {
	run    context.Context // of the whole run: shared work ends with it
	env    *destination.Env
	root   string               // for messages
	o      storage.StoreOptions // where it is
	s      storage.Store        // nil if it is not there, before the first Begin
	dir    *safepath.Dir        // the root
	temp   *tmpfile.Dir         // the run root, if it is not Podman's
	space  *disk.Space
	disk   *disk.Flusher
	layers destination.Group[*made] // by chainID

	opening    sync.Mutex // guards s
	publishing sync.Mutex // images may share layers and names

	mu    sync.Mutex
	stuck bool                   // a call of the library still waits for a lock, or has not given one back
	held  map[digest.Digest]bool // the layers that are, or will be, staged: by chainID
}

var _ destination.Destination = (*store)(nil)

// Open opens the store at root. "" and [Default] open the one that Podman itself would use. A
// store that is not there is made for the first image that is to be stored.
func Open(ctx context.Context, env *destination.Env, root string) (destination.Destination, error) {
	o, err := options(root)
	if err != nil {
		return nil, err
	}
	s := &store{run: ctx, env: env, root: o.GraphRoot, o: o, held: make(map[digest.Digest]bool)}
	s.layers.Drop = func(m *made) { _ = m.abort() }
	if _, err = os.Stat(filepath.Join(o.GraphRoot, driver+"-images")); err == nil {
		err = s.open(ctx)
	} else {
		err = s.failed(s.vacant())
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// options returns what the library has to know of the store at root.
func options(root string) (o storage.StoreOptions, err error) {
	if os.Geteuid() != 0 {
		return o, fault.WithHint(fault.New(fault.Denied, "Podman's store of a user can only be written in the user namespace of Podman"),
			"run fastpull there: podman unshare fastpull --podman IMAGE")
	}
	if o, err = storage.DefaultStoreOptions(); err != nil {
		return o, fault.WithHint(fmt.Errorf("read Podman's storage.conf: %w", err), "correct the file, or name it by CONTAINERS_STORAGE_CONF")
	}
	if root != "" && root != Default {
		abs, err := filepath.Abs(root)
		if err != nil {
			return o, err
		}
		if abs != o.GraphRoot {
			// Podman's options may not fit, and its run root belongs to another store.
			o = storage.StoreOptions{GraphRoot: abs}
		}
	}
	if o.GraphDriverName == "" {
		if o.GraphDriverName, err = driverAt(o.GraphRoot); err != nil {
			return o, err
		}
	}
	if o.GraphDriverName != driver {
		return o, fault.WithHint(fault.New(fault.Failed, "the store %s has the storage driver %s, and fastpull writes %s", o.GraphRoot, o.GraphDriverName, driver),
			"carry the image there by an archive: fastpull -o FILE IMAGE, and podman load -i FILE")
	}
	for _, option := range o.GraphDriverOptions {
		name, value, _ := strings.Cut(option, "=")
		_, name, _ = strings.Cut(name, ".")
		switch name {
		case "mount_program", "force_mask", "use_composefs", "ignore_chown_errors":
			if value != "" && value != "false" {
				return o, fault.WithHint(fault.New(fault.Failed, "the store %s has the option %s in storage.conf, whose form of layers fastpull does not write", o.GraphRoot, name),
					"Linux 5.13 and later need no mount_program; or carry the image there by an archive: fastpull -o FILE IMAGE, and podman load -i FILE")
			}
		}
	}
	// A bind mount of the store onto itself would outlive this process, which mounts nothing.
	o.GraphDriverOptions = append(o.GraphDriverOptions, driver+".skip_mount_home=true")
	return o, nil
}

// driverAt returns the storage driver of the store at root: overlay if there is none.
func driverAt(root string) (string, error) {
	for _, name := range []string{driver, "vfs", "btrfs", "zfs", "aufs"} {
		_, err := os.Stat(filepath.Join(root, name+"-images"))
		if err == nil {
			return name, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", destination.Placed(err)
		}
	}
	return driver, nil
}

// isOpen reports whether the store was there, or has been made.
func (s *store) isOpen() bool {
	s.opening.Lock()
	defer s.opening.Unlock()
	return s.s != nil
}

// open opens the store if it is not open, and removes what killed processes have left in it.
// But for a dry run it makes one that is not there.
func (s *store) open(ctx context.Context) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.s != nil {
		return nil
	}
	return s.failed(s.openAt(ctx, s.o))
}

// failed says that the store could not be opened, if there is an error.
func (s *store) failed(err error) error {
	if err == nil {
		return nil
	}
	return destination.Placed(fmt.Errorf("open Podman's store %s: %w", s.root, err))
}

func (s *store) openAt(ctx context.Context, o storage.StoreOptions) (err error) {
	if o.GraphRoot, err = s.take(); err != nil {
		return err
	}
	if o.RunRoot == "" && s.temp == nil {
		if s.temp, err = newRunRoot(); err != nil {
			return err
		}
	}
	if s.temp != nil {
		o.RunRoot = s.temp.Path
	}
	lib, err := locked(ctx, s, func() (storage.Store, error) { return storage.GetStore(o) })
	if err != nil {
		return err
	}
	if !s.env.DryRun {
		if err := sweep(filepath.Join(o.GraphRoot, driver, "staging")); err != nil {
			return err
		}
		if err := probe(lib); err != nil {
			return err
		}
		s.space = disk.NewSpace(disk.Options{Dir: o.GraphRoot, Advice: "make room there, or remove images (podman image prune)"})
		if s.disk, err = s.env.Flusher(o.GraphRoot); err != nil {
			return err
		}
	}
	s.s = lib
	return nil
}

// probe has the library find out now whether the kernel can map the owners of layers. It
// mounts and unmounts an overlay for that, which writes all of the file system to the disk:
// little now, and all layers if the first commit has to ask.
func probe(lib storage.Store) error {
	d, err := lib.GraphDriver()
	if err == nil {
		d.SupportsShifting(nil, nil)
	}
	return err
}

// newRunRoot makes a run root for a store that is not Podman's own: for what the library
// finds out about the machine.
func newRunRoot() (*tmpfile.Dir, error) {
	const prefix = ".fastpull-podman-"
	parent, err := safepath.Open(destination.TempDir())
	if err != nil {
		return nil, err
	}
	if err := tmpfile.SweepDirs(parent, prefix); err != nil { // of processes that were killed
		return nil, errors.Join(err, parent.Close())
	}
	d, err := tmpfile.NewDir(parent, prefix)
	if err != nil {
		return nil, errors.Join(err, parent.Close())
	}
	return d, nil
}

// Info implements [destination.Destination].
func (s *store) Info() destination.Info {
	return destination.Info{Name: "Podman's store " + s.root, Platform: image.Host()}
}

// Check implements [destination.Destination].
func (s *store) Check(*image.Image) error { return nil }

// Finish implements [destination.Destination]. The layers were on the disk before they got
// their names; now the names and the tar-split data are.
func (s *store) Finish(ctx context.Context) error { return s.disk.Settle(ctx) }

// Close implements [destination.Destination].
func (s *store) Close() error {
	s.layers.Wait()
	var err error
	for _, m := range s.layers.Values() {
		err = errors.Join(err, m.abort())
	}
	stuck := s.isStuck()
	if s.s != nil && !stuck {
		s.s.Free()
	}
	if s.temp != nil {
		err = errors.Join(err, s.temp.Remove())
	}
	if s.dir != nil {
		err = errors.Join(err, s.dir.Close())
	}
	return errors.Join(err, s.disk.Close())
}

// layerID returns the ID of a layer on a parent, "" for none, as Podman makes it.
func layerID(parent string, diffID digest.Digest) string {
	if parent == "" {
		return diffID.Encoded()
	}
	return digest.FromString(parent + "+" + diffID.Encoded()).Encoded()
}

// isStuck reports whether a call of the library still waits for a lock.
func (s *store) isStuck() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stuck
}
