package overlay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// Published is an image that was moved into the data-root.
type Published struct {
	ID     digest.Digest `json:"id"`
	Names  []string      `json:"names"`
	Layers int           `json:"layers"` // that were moved for it
}

// Prepare prepares all staged images and flushes them, so that [Staging.Publish] only has to
// rename. A dockerd may run meanwhile. From then on no other process can have the staging store
// open, until it is closed. If another process has it open now, Prepare calls waiting once and
// waits.
func (s *Staging) Prepare(ctx context.Context, waiting func()) (ready []*Image, unready []Unready, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("prepare what is staged for %s: %w", s.base.dir, err)
		}
	}()
	if err := s.seize(ctx, waiting); err != nil {
		return nil, nil, err
	}
	list, unready, err := s.Waiting()
	if err != nil {
		return nil, nil, err
	}
	for _, img := range list {
		if err := s.prepare(img); err != nil {
			unready = append(unready, Unready{img.ID, fmt.Errorf("publish the staged image %s: %w", nameOf(img), err)})
			continue
		}
		ready = append(ready, img)
	}
	return ready, unready, s.Sync(ctx)
}

// nameOf returns what an image is called in messages.
func nameOf(img *Image) string {
	if len(img.Names) > 0 {
		return img.Names[0]
	}
	return img.ID.String()
}

// prepare makes an image ready, or returns an error if a layer is missing.
func (s *Staging) prepare(img *Image) error {
	if err := image.CheckDocker(img.Image); err != nil {
		return err
	}
	have := s.Chain(img.Layers)
	if len(have) < len(img.Layers) {
		return fault.WithHint(fmt.Errorf("layer %s: %w", img.Layers[len(have)].DiffID, ErrGone),
			"Docker has removed it since the image was staged; stage the image again, which fetches what is missing")
	}
	var below []string // what is under the layer, as mounts call it
	for _, l := range have {
		if theirs, err := s.base.Layer(l.ChainID); err == nil {
			if below, err = s.base.lowers(theirs); err != nil {
				return err
			}
			continue
		}
		short, err := s.lowers(l)
		if err != nil {
			return err
		}
		own := cmp.Or(s.base.shortOf(l.ChainID), strings.TrimPrefix(short[0], "l/"))
		if err := s.writeLinks(l, own, below); err != nil {
			return fmt.Errorf("layer %s: %w", l.DiffID, err)
		}
		below = append([]string{"l/" + own}, below...)
	}
	return nil
}

// writeLinks writes the files that tie a staged layer into its chain in the data-root, if they
// differ from those that it has.
func (s *Staging) writeLinks(l Layer, short string, below []string) error {
	for _, f := range []struct{ name, content string }{{"link", short}, {"lower", strings.Join(below, ":")}} {
		name := s.path("overlay2", l.CacheID, f.name)
		have, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if string(have) != f.content {
			s.durable.name()
			if err := s.writeFile(name, 0o644, []byte(f.content)); err != nil {
				return err
			}
		}
	}
	if s.leadsTo(short, l.CacheID) {
		return nil
	}
	return s.link(l.CacheID, short)
}

// Publish moves images that [Staging.Prepare] has returned into the data-root, each part by one
// rename: layers, configs, and then names. No dockerd may use the data-root. Each image is
// published as a whole or not at all, also after a crash. An image that was not published stays
// staged.
//
// done lists the published images, also if err reports that others failed. They are on the disk
// after [Store.Sync].
func (s *Staging) Publish(ctx context.Context, images []*Image) (done []Published, err error) {
	begun := false
	defer func() {
		if err != nil {
			err = fmt.Errorf("publish what is staged for %s: %w", s.base.dir, err)
		}
		if begun { // it goes on after the end of ctx
			err = fault.Lasting(err)
		}
	}()
	base, err := open(ctx, s.base.dir, Options{NoSync: true}, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	// A process that removes layers holds the lists, too: what is moved stays.
	unlock, err := base.lockLists(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := base.stillOurs(ctx); err != nil {
		return nil, err
	}
	begun = true
	s.durable.name()
	var failures []error
	var moved []*Image
	for _, img := range images {
		n, err := s.publish(base, img)
		if err != nil {
			failures = append(failures, fmt.Errorf("image %s: %w", nameOf(img), err))
			continue
		}
		moved = append(moved, img)
		done = append(done, Published{img.ID, append([]string{}, img.Names...), n})
	}
	failures = append(failures, s.publishBlobs(base))
	if err := s.publishNames(base, moved); err != nil {
		return nil, errors.Join(append(failures, err)...)
	}
	return done, errors.Join(failures...)
}

// publish moves the layers of an image, those below first, and its config. It returns how
// many layers were moved.
func (s *Staging) publish(base *Store, img *Image) (n int, err error) {
	for _, l := range img.Layers {
		if _, err := base.Layer(l.ChainID); err == nil {
			continue
		}
		own, err := s.layer(l.ChainID)
		if err != nil {
			return n, fmt.Errorf("layer %s: %w", l.DiffID, err)
		}
		if err := s.move(base, own); err != nil {
			return n, fmt.Errorf("layer %s: %w", l.DiffID, err)
		}
		n++
	}
	own := s.config(img.ID)
	if _, err := os.Lstat(own); errors.Is(err, fs.ErrNotExist) {
		return n, nil // moved before a crash, or Docker has it: see Waiting
	}
	return n, perform([]step{{"publish: config", func() error { return os.Rename(own, base.config(img.ID)) }}})
}

// move moves a layer, whose parent has to be in the data-root.
func (s *Staging) move(base *Store, l Layer) error {
	var below []string
	if l.Parent != "" {
		p, err := base.Layer(l.Parent)
		if err != nil {
			return fmt.Errorf("its parent: %w", err)
		}
		if below, err = base.lowers(p); err != nil {
			return err
		}
		if err := base.markCommitted(p); err != nil {
			return err
		}
	}
	names, err := s.lowers(l)
	if err != nil {
		return err
	}
	short := strings.TrimPrefix(names[0], "l/")
	if strings.Join(names[1:], ":") != strings.Join(below, ":") {
		return fault.WithHint(errors.New("the data-root has changed since it was prepared"), "try again")
	}
	entry := base.path("image/overlay2/layerdb/sha256", l.ChainID.Encoded())
	err = perform([]step{
		{"publish: note", func() error { return base.announce(l.CacheID, short) }},
		{"publish: files", func() error {
			return os.Rename(s.path("overlay2", l.CacheID), base.path("overlay2", l.CacheID))
		}},
		{"publish: link", func() error { return base.link(l.CacheID, short) }},
		{"publish: aside", func() error {
			// A layer that lost its files.
			if err := os.Rename(entry, filepath.Join(base.run.Path, randomID(8))); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}},
		{"publish: entry", func() error {
			return os.Rename(s.path("image/overlay2/layerdb/sha256", l.ChainID.Encoded()), entry)
		}},
	})
	if err != nil {
		return errors.Join(err, base.forgetPending(l.CacheID))
	}
	// The layer is there. A note or a link that stays all the same is swept later.
	_ = os.Remove(base.path("fastpull/pending", l.CacheID))
	_ = os.Remove(s.path("overlay2/l", short))
	return nil
}

// stages reports whether the staging store has the entry of the layer whose folder in
// overlay2/ has that name, here or there.
func (r *Reader) stages(cacheID string) (bool, error) {
	named, err := r.Staging().namesCacheID(cacheID)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return named, err
}

// Staging returns the staging store of a data-root, to be looked at. It need not be there.
func (r *Reader) Staging() *Reader {
	return &Reader{dir: StagedIn(r.dir), at: r.path(stagedDir), base: r}
}

// stageAgain gives the files of a layer back to the staging store, if they were being moved
// from there when the process ended: the layer's entry is still there.
func (s *Store) stageAgain(cacheID string) error {
	staged, err := s.stages(cacheID)
	if !staged || err != nil {
		return err
	}
	id := filepath.Base(cacheID)
	if err := os.Rename(s.path("overlay2", id), s.Staging().path("overlay2", id)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil // they are there
}

// publishBlobs moves the records of the blobs of staged layers.
func (s *Staging) publishBlobs(base *Store) error {
	infos, err := s.nested("image/overlay2/distribution/v2metadata-by-diffid")
	if err != nil {
		return err
	}
	for _, rel := range infos {
		diffID := digest.Digest(strings.Replace(rel, "/", ":", 1))
		data, err := os.ReadFile(s.blobInfos(diffID))
		if err != nil {
			return err
		}
		var list []blobInfo
		_ = json.Unmarshal(data, &list) // a cache
		if err := s.publishBlob(base, diffID, list); err != nil {
			return err
		}
	}
	return nil
}

// publishBlob moves the notes on the blobs of a layer: by renames, which need no flush,
// unless the data-root has notes of its own on the layer.
func (s *Staging) publishBlob(base *Store, diffID digest.Digest, list []blobInfo) error {
	infos := base.blobInfos(diffID)
	if _, err := os.Lstat(infos); err == nil {
		err := base.putBlobs(diffID, list...)
		for _, b := range list {
			err = errors.Join(err, removeIfThere(s.byDigest(b.Digest)))
		}
		return errors.Join(err, removeIfThere(s.blobInfos(diffID)))
	}
	for _, b := range list {
		if err := moveFile(s.byDigest(b.Digest), base.byDigest(b.Digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return moveFile(s.blobInfos(diffID), infos)
}

// moveFile renames a file. Its new directory is made if it is not there.
func moveFile(from, to string) error {
	if err := mkdir(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// publishNames gives the images their names in the data-root, and takes them from the
// staging store.
func (s *Staging) publishNames(base *Store, images []*Image) error {
	ids := make(map[digest.Digest]bool)
	for _, img := range images {
		ids[img.ID] = true
	}
	here, err := s.names()
	if err != nil {
		return err
	}
	there, err := base.names()
	if err != nil {
		return err
	}
	changed := false
	for repo, tags := range here.Repositories {
		for name, id := range tags {
			if !ids[id] {
				continue
			}
			if there.Repositories[repo] == nil {
				there.Repositories[repo] = map[string]digest.Digest{}
			}
			changed = changed || there.Repositories[repo][name] != id
			there.Repositories[repo][name] = id
			delete(tags, name)
		}
		if len(tags) == 0 {
			delete(here.Repositories, repo)
		}
	}
	steps := []step{{"publish: names", func() error {
		if !changed {
			return nil
		}
		return base.putNames(there)
	}}, {"publish: staged names", func() error { return s.keepNames(here) }}}
	return perform(steps)
}

// NamesOnly reports whether all of a staged image but its names is in the data-root. A Docker
// that runs can give them to it.
func (s *Staging) NamesOnly(img *Image) bool {
	_, err := s.base.Image(img.ID)
	return err == nil && len(s.base.Chain(img.Layers)) == len(img.Layers)
}

// Forget removes a staged image and its names. Its layers are for [Staging.Tidy]. No other
// process may have the staging store open: see [Staging.Prepare].
func (s *Staging) Forget(img *Image) error {
	n, err := s.names()
	if err != nil {
		return err
	}
	n.forget(func(id digest.Digest) bool { return id == img.ID })
	if err := s.keepNames(n); err != nil {
		return err
	}
	return removeIfThere(s.config(img.ID))
}

// keepNames writes the names of the images that stay.
func (s *Staging) keepNames(n names) error {
	if len(n.Repositories) == 0 {
		return removeIfThere(s.path(namesFile))
	}
	return s.putNames(n)
}

// Tidy removes staged layers that the data-root has got by other ways, and the staging
// store itself if nothing is left in it. It is for after [Staging.Publish], when Docker
// runs again.
func (s *Staging) Tidy() error {
	if !s.alone {
		return nil
	}
	entries, err := s.entries()
	if err != nil {
		return err
	}
	left := 0
	for chain, e := range entries {
		if _, err := s.base.Layer(chain); err != nil {
			left++
			continue
		}
		err := tmpfile.RemoveAll(s.path("image/overlay2/layerdb/sha256", chain.Encoded()))
		if err == nil && e.cacheID != "" {
			err = tmpfile.RemoveAll(s.path("overlay2", e.cacheID))
		}
		if err != nil {
			return err
		}
	}
	images, damaged, err := s.Waiting()
	if err != nil || left+len(images)+len(damaged) > 0 {
		return err
	}
	if blobs, err := os.ReadDir(s.path("fastpull/partial")); err == nil && len(blobs) > 0 {
		return nil
	}
	return s.drop()
}
