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
	"time"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/fsutils"
	"go.podman.io/storage/pkg/unshare"
	"go.podman.io/storage/types"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/internal/safepath"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// Default is the graph root that Podman itself would use.
const Default = "default"

// driver is the only one whose layers can be staged.
const driver = "overlay"

// store is a store that images are brought into.
type store struct {
	run     context.Context // of the whole run: shared work ends with it
	env     *destination.Env
	root    string               // for messages
	o       storage.StoreOptions // where it is
	s       storage.Store        // nil if it is not there, before the first Begin
	dir     *safepath.Dir        // the root
	temp    *tmpfile.Dir         // the run root, if it is not Podman's
	home    *safepath.Dir        // the directory of the driver
	staging *tmpfile.Dir         // in home: the staging directories of this run
	space   *disk.Space
	disk    *disk.Flusher
	meta    *disk.Flusher            // of the tar-split data, if images have another root
	layers  destination.Group[*made] // by chainID

	opening    sync.Mutex // guards s
	publishing sync.Mutex // images may share layers and names

	mu    sync.Mutex
	named bool // images got names that may not be on the disk
	stuck bool // a call of the library still waits for a lock, or has not given one back
}

var _ destination.Destination = (*store)(nil)

// Open opens the store at root. "" and [Default] open the one that Podman itself would use. A
// store that is not there is made for the first image that is to be stored.
func Open(ctx context.Context, env *destination.Env, root string) (destination.Destination, error) {
	o, err := options(root)
	if err != nil {
		return nil, err
	}
	s := &store{run: ctx, env: env, root: o.GraphRoot, o: o}
	s.layers.Drop = func(m *made) { _ = m.abort() }
	if _, err = os.Stat(filepath.Join(imagesOf(o), driver+"-images")); err == nil {
		err = s.open(ctx)
	} else {
		err = s.failed(s.vacant())
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// options returns what the library has to know of the store at root, or why fastpull cannot
// write it.
func options(root string) (storage.StoreOptions, error) {
	if err := entitled(); err != nil {
		return storage.StoreOptions{}, err
	}
	o, err := located(root)
	if err != nil {
		return o, err
	}
	return o, writable(&o)
}

// entitled returns the error of a process that may not write any store.
func entitled() error {
	switch rights := privilege.Current(); {
	case rights.Level == privilege.User:
		return errNotInNamespace
	case rights.Level == privilege.Reduced && !rights.Has(privilege.SysAdmin):
		return errNoAdmin
	}
	return nil
}

// errNoAdmin is the error of the machine's root without CAP_SYS_ADMIN. The library takes it for
// root of a user namespace. The attributes that mark deleted directories for mounts in such a
// namespace are ignored by root's own mounts, so that deleted files would be seen.
var errNoAdmin = fault.WithHint(fault.New(fault.Denied, "Podman's store of root takes CAP_SYS_ADMIN, for the attributes that mark deleted directories"),
	"run fastpull with it, or pull into a directory with --rootfs")

// errNotInNamespace is the error of a user other than root.
var errNotInNamespace = fault.WithHint(fault.New(fault.Denied, "Podman's store of a user can only be written in the user namespace of Podman"),
	"run fastpull there: podman unshare fastpull --podman IMAGE")

// located returns where the store at root is, with its driver and its settings.
func located(root string) (o storage.StoreOptions, err error) {
	if o, err = types.LoadStoreOptions(types.LoadOptions{}); err != nil {
		return o, fault.WithHint(fmt.Errorf("read Podman's storage.conf: %w", err), "correct the file, or name it by CONTAINERS_STORAGE_CONF")
	}
	// podman unshare says where its store is: before version 6, Podman does not heed the graph
	// root of the system's storage.conf for users.
	if graph, run := os.Getenv("CONTAINERS_GRAPHROOT"), os.Getenv("CONTAINERS_RUNROOT"); graph != "" && run != "" {
		o.GraphRoot, o.RunRoot = graph, run
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
		o.GraphDriverName, err = driverAt(o.GraphRoot)
	}
	return o, err
}

// writable completes the options for a store that fastpull is to write. The error says why it
// cannot.
func writable(o *storage.StoreOptions) error {
	if o.GraphDriverName != driver {
		return fault.WithHint(fault.New(fault.Failed, "the store %s has the storage driver %s, and fastpull writes %s", o.GraphRoot, o.GraphDriverName, driver),
			"carry the image there by an archive: fastpull -o FILE IMAGE, and podman load -i FILE")
	}
	for _, option := range o.GraphDriverOptions {
		switch name, value := optionOf(option); name {
		case "force_mask", "use_composefs", "ignore_chown_errors":
			if value != "" && value != "false" {
				return fault.WithHint(fault.New(fault.Failed, "the store %s has the option %s in storage.conf, whose form of layers fastpull does not write", o.GraphRoot, name),
					"carry the image there by an archive: fastpull -o FILE IMAGE, and podman load -i FILE")
			}
		}
	}
	// A bind mount of the store onto itself would outlive this process.
	o.GraphDriverOptions = append(o.GraphDriverOptions, driver+".skip_mount_home=true")
	return nil
}

// optionOf returns the name and the value of a driver's option: NAME=VALUE, for all drivers,
// or DRIVER.NAME=VALUE. The name is "" for other drivers.
func optionOf(option string) (name, value string) {
	name, value, _ = strings.Cut(option, "=")
	of, rest, ofDriver := strings.Cut(name, ".")
	switch {
	case !ofDriver:
		return name, value
	case of == driver || of == driver+"2":
		return rest, value
	}
	return "", value
}

// driverAt returns the storage driver of the store at root: overlay if there is none.
func driverAt(root string) (string, error) {
	for _, name := range []string{driver, "vfs", "btrfs", "zfs", "aufs"} {
		_, err := os.Stat(filepath.Join(root, name+"-images"))
		if err == nil {
			return name, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", destination.ExplainWrite(fmt.Errorf("look for a storage driver in Podman's store %s: %w", root, err))
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
	return destination.ExplainWrite(fmt.Errorf("open Podman's store %s: %w", s.root, err))
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
		if err := s.prepare(lib, o); err != nil {
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

// prepare removes what killed processes have left, and makes the store ready to be written.
func (s *store) prepare(lib storage.Store, o storage.StoreOptions) (err error) {
	images := imagesOf(o)
	home := filepath.Join(images, driver)
	if err := errors.Join(sweep(filepath.Join(home, "staging")), sweepTrials(home)); err != nil {
		return err
	}
	if err := checkFileSystem(home); err != nil {
		return err
	}
	if err := probe(lib); err != nil {
		return err
	}
	if s.home, err = safepath.Open(home); err != nil {
		return err
	}
	if err := tmpfile.SweepDirs(s.home, stagingPrefix); err != nil { // of processes that were killed
		return err
	}
	if s.staging, err = tmpfile.NewDir(s.home, stagingPrefix); err != nil {
		return err
	}
	s.space = disk.NewSpace(disk.Options{Dir: images, Advice: "make room there, or remove images (podman image prune)"})
	if s.disk, err = s.env.Flusher(images); err == nil && images != o.GraphRoot {
		s.meta, err = s.env.Flusher(o.GraphRoot)
	}
	return err
}

// stagingPrefix begins the name of a run's staging directories. They are in the directory of
// the driver, so that files get the labels there that SELinux has for layers.
const stagingPrefix = ".fastpull-staging-"

// checkFileSystem checks what overlayfs needs of the directory of the driver.
func checkFileSystem(home string) error {
	types, err := fsutils.SupportsDType(home)
	if err == nil && !types {
		err = fault.WithHint(fault.New(fault.Failed, "the file system of %s has no d_type, so that deleted files stay to be seen", home),
			"use ext4, or xfs with ftype=1")
	}
	return err
}

// known lists the files in a run root that tell the library what overlayfs can do on this
// machine. Without them, the library mounts overlays in the store to find out, and a kill at
// that time leaves a directory or a mount there. A process that mounts and exports no layer
// needs no other such files. In a user namespace the library has to try: old kernels let no user
// mount an overlay.
var known = []string{"overlay-true", "metacopy()-false", "native-diff()-false", "idmapped-lower-dir-false", "dataonly-layers-false"}

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
	err = os.Mkdir(filepath.Join(d.Path, driver), 0o700)
	for _, name := range known {
		if err == nil && !unshare.IsRootless() {
			err = os.WriteFile(filepath.Join(d.Path, driver, name), nil, 0o600)
		}
	}
	if err != nil {
		return nil, errors.Join(err, d.Remove())
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
func (s *store) Finish(ctx context.Context) error {
	err := s.settle(ctx)
	if ctx.Err() == nil {
		s.setNamed(false)
	}
	return err
}

func (s *store) settle(ctx context.Context) error {
	return errors.Join(s.disk.Settle(ctx), s.meta.Settle(ctx))
}

// settleTimeout bounds the wait for the disk after a run that did not finish.
const settleTimeout = 30 * time.Second

func (s *store) setNamed(named bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.named = named
}

// Close implements [destination.Destination].
func (s *store) Close() error {
	s.layers.Wait()
	var err error
	for _, m := range s.layers.Values() {
		err = errors.Join(err, m.abort())
	}
	if s.named {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.run), settleTimeout)
		defer cancel()
		err = errors.Join(err, s.settle(ctx))
	}
	stuck := s.isStuck()
	if s.s != nil && !stuck {
		s.s.Free()
	}
	if s.temp != nil {
		err = errors.Join(err, s.temp.Remove())
	}
	// A call of the library may still move files out of it. Then the next run removes it.
	if s.staging != nil && !stuck {
		err = errors.Join(err, s.staging.Remove())
	}
	if s.home != nil {
		err = errors.Join(err, s.home.Close())
	}
	if s.dir != nil {
		err = errors.Join(err, s.dir.Close())
	}
	return errors.Join(err, s.disk.Close(), s.meta.Close())
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
