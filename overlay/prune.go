package overlay

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/internal/safepath"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// PruneOptions are the options of [Prune].
type PruneOptions struct {
	// Untagged also removes the images that have no tag, that no container uses and
	// that none was built on: those that docker image prune removes.
	Untagged bool
	// DryRun only lists what would be removed. It changes nothing and takes no lock.
	DryRun bool
	// Waiting is called once, by another goroutine, if another process has the lists
	// for a while. Nil is fine.
	Waiting func()
}

// Pruned is what was removed, or would be.
type Pruned struct {
	Removal
	Staging int `json:"staging"` // folders and layers that processes left which are no more
	Folders int `json:"folders"` // in overlay2/, which nothing names
	Links   int `json:"links"`   // in overlay2/l/, which lead nowhere
	Blobs   int `json:"blobs"`   // notes on the blobs of layers that are not there
}

// Prune removes what is not needed from the store at dir: files of processes that were killed,
// layers of no image, container or builder of Docker's, and folders in overlay2/ that nothing
// names. If there is no store, the error is of kind [fault.NotFound].
func Prune(ctx context.Context, dir string, o PruneOptions) (p Pruned, err error) {
	r, err := OpenReader(dir)
	if err != nil {
		return p, err
	}
	p.Removal = Removal{Untagged: []string{}, Deleted: []digest.Digest{}, Layers: []digest.Digest{}}
	defer func() {
		if err != nil {
			err = failed("prune", r.dir, err)
		}
	}()
	if err := mountsKnown(); err != nil {
		return p, err
	}
	nothing := p
	if err := r.left(&p); err != nil {
		return p, err
	}
	if o.DryRun {
		// What the run would refuse is nothing that would be removed.
		if err := usable(r.dir); err != nil {
			return nothing, err
		}
		return p, r.wouldPrune(&p, o)
	}
	s, err := open(ctx, r.dir, Options{NoSync: true}, true) // sweeps
	if err != nil {
		return nothing, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	b := &bin{s: s}
	err = s.prune(ctx, &p, o, b)
	err = errors.Join(err, b.empty())
	p.Freed += b.freed
	return p, err
}

// left measures what processes have left that are no more.
func (r *Reader) left(p *Pruned) error {
	dead := func(dir string) error {
		p.Staging++
		p.Freed += diskUse(dir)
		return nil
	}
	if err := r.dead("", dead); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	notes, err := os.ReadDir(r.path("fastpull/pending"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, n := range notes {
		if isRemoval(n.Name()) {
			continue
		}
		data, err := os.ReadFile(r.path("fastpull/pending", n.Name()))
		if err != nil {
			continue // its process is at work
		}
		run, _, _ := strings.Cut(string(data), " ")
		if run != "" && r.lives(filepath.Base(run)) {
			continue
		}
		if named, err := r.namesCacheID(n.Name()); err != nil || named {
			continue
		}
		if staged, err := r.stages(n.Name()); err != nil || staged {
			continue
		}
		if _, err := os.Stat(r.path("overlay2", n.Name())); err == nil {
			_ = dead(r.path("overlay2", n.Name()))
		}
	}
	return nil
}

// dead calls do for the folders in run/ whose names begin with prefix, and whose
// processes are gone.
func (r *Reader) dead(prefix string, do func(dir string) error) error {
	runs, err := safepath.Open(r.path("fastpull/run"))
	if err != nil {
		return err
	}
	return errors.Join(tmpfile.DeadDirs(runs, prefix, do), runs.Close())
}

// lives reports whether the process lives whose folder in run/ this is.
func (r *Reader) lives(run string) bool {
	if _, err := os.Stat(r.path("fastpull/run", run)); err != nil {
		return false
	}
	lives := true
	_ = r.dead(run, func(dir string) error {
		lives = lives && filepath.Base(dir) != run
		return nil
	})
	return lives
}

// untagged returns the images without a tag that nothing needs, the last built first.
func (st *stock) untagged() (list []digest.Digest) {
	for again := true; again; {
		again = false
		for id := range st.images {
			if slices.Contains(list, id) || len(st.containers[id]) > 0 {
				continue
			}
			tagged := slices.ContainsFunc(st.refs(id), func(ref string) bool { return !strings.Contains(ref, "@") })
			needed := false
			for child, parent := range st.parents {
				needed = needed || parent == id && !slices.Contains(list, child)
			}
			if !tagged && !needed {
				list = append(list, id)
				again = true
			}
		}
	}
	return list
}

func (s *Store) prune(ctx context.Context, p *Pruned, o PruneOptions, b *bin) error {
	st, unlock, err := s.lockStock(ctx, o.Waiting)
	if err != nil {
		return err
	}
	defer unlock()
	if o.Untagged {
		for _, id := range st.untagged() {
			if s.notMounted(st, mounts(), []digest.Digest{id}) != nil {
				continue
			}
			if err := s.delete(st, []digest.Digest{id}, &p.Removal, b); err != nil {
				return err
			}
			st = st.without([]digest.Digest{id})
		}
		p.Kept = nil // what stays is told below
	}
	// If stray folders cannot be recognized, neither can the layers that need another one.
	before, err := s.loose()
	if err != nil {
		return err
	}
	if bad := st.unreadable(); bad != "" {
		for _, e := range st.free() {
			p.Kept = append(p.Kept, KeptLayer{e.chain, unknown(bad)})
		}
	} else {
		if err := s.retainOthers(st, before.folders); err != nil {
			return err
		}
		if err := s.takeLayers(st, st.free(), &p.Removal, b); err != nil {
			return err
		}
	}
	loose, err := s.loose()
	if err != nil {
		return err
	}
	for _, name := range loose.folders {
		if err := perform([]step{{"prune: folder", func() error { return s.discard(s.path("overlay2", name), b) }}}); err != nil {
			return err
		}
		p.Folders++
	}
	for _, name := range loose.links {
		if err := os.Remove(s.path("overlay2/l", name)); err != nil {
			return err
		}
		p.Links++
	}
	if s.alone() {
		return s.pruneBlobs(st, p)
	}
	return nil
}

func (r *Reader) wouldPrune(p *Pruned, o PruneOptions) error {
	st, err := r.stock()
	if err != nil {
		return err
	}
	m := mounts()
	if o.Untagged {
		for _, id := range st.untagged() {
			if r.notMounted(st, m, []digest.Digest{id}) == nil {
				p.Deleted = append(p.Deleted, id)
			}
		}
		for _, id := range p.Deleted {
			p.Untagged = append(p.Untagged, st.refs(id)...)
		}
		st = st.without(p.Deleted)
	}
	loose, err := r.loose()
	if err != nil {
		return err
	}
	if bad := st.unreadable(); bad != "" {
		for _, e := range st.free() {
			p.Kept = append(p.Kept, KeptLayer{e.chain, unknown(bad)})
		}
	} else {
		if err := r.retainOthers(st, loose.folders); err != nil {
			return err
		}
		for _, e := range st.free() {
			if at := m.of(r, e); at.dir != "" {
				st.retain(e.chain, "a layer on top of it stays")
				p.Kept = append(p.Kept, KeptLayer{e.chain, "it is mounted at " + at.String()})
			}
		}
		for _, e := range st.free() {
			p.Layers = append(p.Layers, e.chain)
			if e.cacheID != "" {
				p.Freed += diskUse(r.path("overlay2", e.cacheID))
			}
			p.Freed += diskUse(r.path("image/overlay2/layerdb/sha256", e.chain.Encoded()))
		}
	}
	for _, name := range loose.folders {
		p.Freed += diskUse(r.path("overlay2", name))
	}
	p.Folders, p.Links = len(loose.folders), len(loose.links)
	return nil
}
