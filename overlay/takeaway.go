package overlay

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Kept is a layer that could not be removed now, and why.
type Kept struct {
	Layer digest.Digest `json:"layer"` // chainID
	Why   string        `json:"why"`
}

// takeAway removes layers that nothing holds, those on top first, in the order in
// which they are given. What a crash leaves of one is, from the first step on that
// can be seen, no layer any more, and is swept by the next Open. Their files are
// in this process' folder afterwards, to be thrown away when the caller has given
// back the lists.
func (s *Store) takeAway(st *stock, layers []entry) (gone []entry, files []string, kept []Kept, err error) {
	type hidden struct {
		entry
		meta, short string
	}
	var list []hidden
	defer func() {
		for _, h := range list {
			s.locks.unlock(useLock(h.chain))
		}
	}()
	path := func(h hidden) string { return s.path("image/overlay2/layerdb/sha256", h.chain.Encoded()) }
	before := mounts()
	owners := make(map[string]int)
	for _, e := range st.entries {
		owners[e.cacheID]++
	}
	for _, e := range layers {
		why := st.held[e.chain]
		if why == "" {
			why = s.use(e, owners, before)
		}
		if why != "" {
			st.hold(e.chain, "a layer on top of it stays")
			kept = append(kept, Kept{e.chain, why})
			continue
		}
		h := hidden{entry: e, meta: filepath.Join(s.run.Path, randomID(8))}
		if e.cacheID != "" {
			if data, err := os.ReadFile(s.path("overlay2", e.cacheID, "link")); err == nil {
				h.short = strings.TrimSpace(string(data))
			}
		}
		list = append(list, h)
		if err := perform([]step{
			{"remove: note", func() error {
				if e.cacheID == "" {
					return nil
				}
				return s.announce(e.cacheID, h.short)
			}},
			{"remove: entry", func() error { return os.Rename(path(h), h.meta) }},
		}); err != nil {
			return gone, files, kept, err
		}
	}
	// Who mounts looks, when he has done so, if the layers are still there.
	after := mounts()
	for _, h := range list {
		if at := after.of(&s.Reader, h.entry); at != "" {
			if err := os.Rename(h.meta, path(h)); err != nil {
				return gone, files, kept, err
			}
			if err := os.Remove(s.path("fastpull/pending", h.cacheID)); err != nil {
				return gone, files, kept, err
			}
			kept = append(kept, Kept{h.chain, "it is mounted at " + at})
			continue
		}
		aside := h.meta + "-files"
		files = append(files, h.meta, aside)
		if h.cacheID != "" {
			if err := perform([]step{
				{"remove: files", func() error { return renameIfThere(s.path("overlay2", h.cacheID), aside) }},
				{"remove: link", func() error { return s.unlink(h.cacheID, h.short) }},
				{"remove: done", func() error { return os.Remove(s.path("fastpull/pending", h.cacheID)) }},
			}); err != nil {
				return gone, files, kept, err
			}
		}
		gone = append(gone, h.entry)
		delete(st.entries, h.chain)
	}
	return gone, files, kept, s.forgetBlobs(st, gone)
}

// use returns what keeps a layer from being removed, "" if it is locked for that.
func (s *Store) use(e entry, owners map[string]int, before mounted) string {
	if e.cacheID != "" && owners[e.cacheID] > 1 {
		return "another layer says that it has the same files"
	}
	if at := before.of(&s.Reader, e); at != "" {
		return "it is mounted at " + at
	}
	if !s.locks.try(useLock(e.chain)) {
		return "another fastpull needs it"
	}
	return ""
}

func renameIfThere(from, to string) error {
	if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// forgetBlobs removes what is known of the blobs of layers that are gone.
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

// forgetBlob removes what is known of the blobs of a diffID, given as a path.
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

// throwAwayMeasured removes what was taken away, and returns the room that it took
// on the disk.
func (s *Store) throwAwayMeasured(names []string) (freed int64, err error) {
	for _, name := range names {
		freed += diskUse(name)
	}
	return freed, s.throwAway(names)
}

// diskUse returns the room that a tree takes on the disk, in bytes. What cannot be
// looked at takes none.
func diskUse(root string) int64 { return measure(root).Disk }
