package overlay

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/internal/disk"
)

// KeptLayer is a layer that could not be removed now, and why.
type KeptLayer struct {
	Layer digest.Digest `json:"layer"` // chainID
	Why   string        `json:"why"`
}

// takeAway removes layers that are not retained, in the order given: topmost first. It adds the
// results to r, and the files of the layers to b, which the caller empties. After a crash in the
// middle of a removal, the layer is not in the store any more, and the next Open or [Prune]
// removes the rest.
func (s *Store) takeAway(st *stock, layers []entry, r *Removal, b *bin) error {
	owners := make(map[string]int)
	for _, e := range st.entries {
		owners[e.cacheID]++
	}
	var gone []entry
	for len(layers) > 0 {
		list, n, err := s.hide(st, layers, owners, r, b)
		if err == nil {
			err = s.takeHidden(st, list, r, b)
		}
		for _, h := range list {
			if h.gone {
				gone = append(gone, h.entry)
				r.Layers = append(r.Layers, h.chain)
			}
			s.locks.unlock(useLock(h.chain))
		}
		if err != nil {
			return err
		}
		layers = layers[n:]
	}
	return s.forgetBlobs(st, gone)
}

// hidden is a layer that is out of layerdb.
type hidden struct {
	entry
	short string
	aside taken // its entry in layerdb
	gone  bool
}

// hide moves layers out of layerdb, in their order, and notes why a layer stays. n is the number of
// layers that it has dealt with. It stops at the first layer for which there is no space.
func (s *Store) hide(st *stock, layers []entry, owners map[string]int, r *Removal, b *bin) (list []*hidden, n int, err error) {
	before := mounts()
	for _, e := range layers {
		n++
		why := st.retained[e.chain]
		if why == "" && e.cacheID != "" && owners[e.cacheID] > 1 {
			why = "another layer says that it has the same files"
		}
		if at := before.of(&s.Reader, e); why == "" && at.dir != "" {
			why = "it is mounted at " + at.String()
		}
		if why == "" && !s.locks.try(useLock(e.chain)) {
			why = "another fastpull needs it"
		}
		if why != "" {
			st.retain(e.chain, "a layer on top of it stays")
			r.Kept = append(r.Kept, KeptLayer{e.chain, why})
			continue
		}
		h := &hidden{entry: e}
		list = append(list, h)
		if e.cacheID != "" {
			if data, err := os.ReadFile(s.path("overlay2", e.cacheID, "link")); err == nil {
				h.short = strings.TrimSpace(string(data))
			}
		}
		if err := perform([]step{
			{"remove: note", func() error {
				if e.cacheID == "" {
					return nil
				}
				err := s.announce(e.cacheID, h.short)
				if disk.Full(err) {
					b.now = true
					return nil // after a crash Prune finds the files, though Open does not
				}
				return err
			}},
			{"remove: entry", func() (err error) {
				h.aside, err = s.aside(s.path("image/overlay2/layerdb/sha256", e.chain.Encoded()))
				b.now = b.now || h.aside.full
				return err
			}},
		}); err != nil {
			return list, n, err
		}
		if b.now {
			break
		}
	}
	return list, n, nil
}

// takeHidden removes the files of hidden layers.
func (s *Store) takeHidden(st *stock, list []*hidden, r *Removal, b *bin) error {
	// A process that mounts looks afterwards if the layers are still there.
	after := mounts()
	for _, h := range list {
		note := s.path("fastpull/pending", h.cacheID)
		if at := after.of(&s.Reader, h.entry); at.dir != "" {
			if err := h.aside.back(); err != nil {
				return err
			}
			if err := removeIfThere(note); err != nil {
				return err
			}
			r.Kept = append(r.Kept, KeptLayer{h.chain, "it is mounted at " + at.String()})
			continue
		}
		if h.cacheID != "" {
			if err := perform([]step{
				{"remove: files", func() error {
					err := s.discard(s.path("overlay2", h.cacheID), b)
					if errors.Is(err, fs.ErrNotExist) {
						return nil
					}
					return err
				}},
				{"remove: link", func() error { return s.unlink(h.cacheID, h.short) }},
				{"remove: done", func() error { return removeIfThere(note) }},
			}); err != nil {
				return err
			}
		}
		if err := b.add(h.aside.files); err != nil {
			return err
		}
		h.gone = true
		delete(st.entries, h.chain)
	}
	return nil
}

// forgetBlobs removes the records of the blobs of layers that were removed.
func (s *Store) forgetBlobs(st *stock, gone []entry) error {
	have := st.diffIDs()
	for _, e := range gone {
		if e.diffID == "" || have[e.diffID] {
			continue
		}
		if _, err := s.forgetBlob(e.diffID.Algorithm().String() + "/" + e.diffID.Encoded()); err != nil {
			return err
		}
	}
	return nil
}

// diffIDs are those of the layers that are there, or that an image lacks.
func (st *stock) diffIDs() map[digest.Digest]bool {
	have := make(map[digest.Digest]bool, len(st.entries))
	for id := range st.images {
		for _, d := range st.diffs[id] {
			have[d] = true
		}
	}
	for _, e := range st.entries {
		have[e.diffID] = true
	}
	return have
}

// forgetBlob removes the records of the blobs of a diffID, given as a path.
func (s *Store) forgetBlob(diffID string) (found bool, err error) {
	dir := s.path("image/overlay2/distribution")
	name := filepath.Join(dir, "v2metadata-by-diffid", diffID)
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var list []blobInfo
	_ = json.Unmarshal(data, &list) // what cannot be read names no blobs
	for _, b := range list {
		if b.Digest.Validate() != nil {
			continue
		}
		if err := os.Remove(filepath.Join(dir, "diffid-by-digest", b.Digest.Algorithm().String(), b.Digest.Encoded())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return true, err
		}
	}
	return true, os.Remove(name)
}

// diskUse returns how many bytes a tree takes on the disk. What cannot be
// looked at takes none.
func diskUse(root string) int64 { return measure(root).Disk }
