package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/internal/safepath"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// stagedDir is the staging store of a data-root.
const stagedDir = "fastpull/staged"

// Staging is a store in which images wait to be published: to be moved into the data-root that
// has this store in its folder fastpull/staged. A dockerd may run on the data-root until then,
// since nothing of Docker's is changed. Layers of the data-root are used and not fetched
// again.
//
// A Staging is a store like others: what is committed to it stays, and can be listed, verified
// and removed there.
type Staging struct {
	*Store
	alone bool // no other process has it open
}

// StagedIn returns the directory of the staging store for the data-root at dir.
func StagedIn(dir string) string { return filepath.Join(dir, stagedDir) }

// baseOf returns the data-root if dir is the directory of a staging store.
func baseOf(dir string) *Reader {
	if base, ok := strings.CutSuffix(dir, "/"+stagedDir); ok && base != "" {
		return &Reader{dir: base}
	}
	return nil
}

// OpenStaging opens the staging store for the data-root at dir, and creates it if it is
// not there. The data-root has to be one with overlay2; a dockerd may run on it. While
// another process publishes or removes what is staged, OpenStaging waits.
func OpenStaging(ctx context.Context, dir string, o Options) (*Staging, error) {
	if err := Stageable(dir); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := sweepRuns(dir); err != nil {
		return nil, failed("open", dir, err)
	}
	s, err := Open(ctx, StagedIn(dir), o)
	if err != nil {
		return nil, err
	}
	return &Staging{Store: s}, nil
}

// Stageable reports, by looking only, whether images can be staged for the data-root at
// dir.
func Stageable(dir string) error {
	r, err := OpenReader(dir)
	if err != nil {
		return fault.WithHint(err, "name the data-root of a Docker that has been started with the storage driver overlay2")
	}
	if err = r.stageable(); err != nil {
		return failed("stage images for", r.dir, err)
	}
	return nil
}

func (r *Reader) stageable() error {
	root, err := safepath.Open(r.dir)
	if err != nil {
		return err
	}
	if err := errors.Join(ours(root), root.Close()); err != nil {
		return err
	}
	if err := refuseOthers(r.dir); err != nil {
		return err
	}
	if _, err := r.fits(privilege.Current()); err != nil && !errors.Is(err, errUndecided) {
		return err
	}
	return r.oneMount()
}

// oneMount returns an error if a folder on the way to Docker's layers is a mount point: a rename
// could not move staged layers there.
func (r *Reader) oneMount() error {
	var dev uint64
	points := mountPoints()
	for i, name := range []string{".", "fastpull", "overlay2", "image", "image/overlay2", "image/overlay2/layerdb"} {
		at := r.path(name)
		var st unix.Stat_t
		if err := unix.Stat(at, &st); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return &os.PathError{Op: "stat", Path: at, Err: err}
		}
		if i == 0 {
			dev = uint64(st.Dev) //nolint:unconvert // 32 bit on some platforms
			continue
		}
		real, err := filepath.EvalSymlinks(at)
		if err != nil {
			return err
		}
		if uint64(st.Dev) != dev || points[real] { //nolint:unconvert // see above
			return fault.WithHint(fault.New(fault.Failed, "%s is mounted there, and what is staged cannot be moved into it", at),
				"load into that Docker while it runs (--load)")
		}
	}
	return nil
}

// StagingReader returns the staging store for the data-root at dir, to be looked at. The
// store itself need not be there.
func StagingReader(dir string) (*Reader, error) {
	if err := Stageable(dir); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return (&Reader{dir: dir}).Staging(), nil
}

// Base returns the data-root that a staging store is for.
func (r *Reader) Base() string { return r.base.dir }

// sweepRuns removes what processes that are gone have left in fastpull's own folder of the
// data-root at dir.
func sweepRuns(dir string) error {
	runs, err := safepath.Open(filepath.Join(dir, "fastpull/run"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(tmpfile.SweepDirs(runs, ""), runs.Close())
}

// below reports whether an image and its tags are in the data-root already, and nothing
// waits that would change that. n are the names here. That one of the refs is a digest which
// the data-root does not know is not worth a restart of Docker.
func (s *Store) below(img *image.Image, n names, refs []string) (bool, error) {
	if s.base == nil {
		return false, nil
	}
	if _, err := s.base.Image(img.ID); err != nil {
		return false, nil
	}
	if len(s.base.Chain(img.Layers)) < len(img.Layers) {
		return false, nil
	}
	docker, err := s.base.names()
	if err != nil {
		return false, err
	}
	for _, ref := range refs {
		id, _ := n.id(ref)
		if id == "" {
			id, _ = docker.id(ref)
		}
		if id != img.ID && (id != "" || !strings.Contains(ref, "@")) {
			return false, nil
		}
	}
	return true, nil
}

// Unready is a staged image that cannot be published.
type Unready struct {
	ID  digest.Digest
	Err error // which names the image
}

// Waiting lists the images that are staged, and those whose configs cannot be read.
func (r *Reader) Waiting() (list []*Image, damaged []Unready, err error) {
	n, err := r.names()
	if err != nil {
		return nil, nil, err
	}
	ids := make(map[digest.Digest]bool)
	for _, tags := range n.Repositories {
		for _, id := range tags {
			ids[id] = true
		}
	}
	configs, err := r.configs()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, denied(err)
	}
	for _, id := range configs {
		ids[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		img, err := r.Image(id)
		if err != nil {
			damaged = append(damaged, Unready{id, fault.WithHint(fmt.Errorf("read the staged image %.12s: %w", id.Encoded(), denied(err)), "stage it again, or remove what is staged: fastpull prune --staged")})
			continue
		}
		img.Names = n.refs(id)
		list = append(list, img)
	}
	return list, damaged, nil
}

// seize waits until no other process has the staging store open. Others wait until it is
// closed, from then on. waiting is called once if there are others; nil is fine.
func (s *Staging) seize(ctx context.Context, waiting func()) error {
	if s.alone {
		return nil
	}
	err := awaitLock(ctx, func() (bool, error) {
		// It gives up the shared lock first: of two that seize, one succeeds.
		return s.lockInside(unix.LOCK_EX)
	}, waiting, s.pulse())
	if err != nil {
		return err
	}
	s.alone = true
	return s.named()
}

// DropStaged removes all that is staged for the data-root at dir, published images apart,
// and returns the bytes that it had on the disk, and its images. waiting is called if another
// process has the staging store; nil is fine.
func DropStaged(ctx context.Context, dir string, dry bool, waiting func()) (images int, freed int64, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return 0, 0, err
	}
	r, err := OpenReader(StagedIn(dir))
	if fault.KindOf(err) == fault.NotFound {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	list, damaged, _ := r.Waiting() // what cannot be read goes, too
	images, freed = len(list)+len(damaged), diskUse(r.dir)
	if dry {
		return images, freed, nil
	}
	s, err := open(ctx, r.dir, Options{NoSync: true, Waiting: waiting}, true)
	if err != nil {
		return 0, 0, failed("open", r.dir, err)
	}
	g := &Staging{Store: s}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := g.seize(ctx, waiting); err != nil {
		return 0, 0, err
	}
	return images, freed, g.drop()
}

// drop moves the directory of the staging store out of sight by one rename, and removes it. It
// needs no space: if there is none for a new folder, the directory itself becomes that folder.
func (s *Staging) drop() (err error) {
	runs, err := safepath.Make(s.base.path("fastpull/run"), 0o700)
	if err != nil {
		return err
	}
	defer runs.Close()
	bin, err := tmpfile.NewDir(runs, "")
	if disk.Full(err) {
		if bin, err = tmpfile.Adopt(runs, s.path()); errors.Is(err, fs.ErrNotExist) {
			return nil // another process has swept it
		}
		if err != nil {
			return err
		}
		return bin.Remove()
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bin.Remove()) }()
	return os.Rename(s.path(), filepath.Join(bin.Path, "staged"))
}
