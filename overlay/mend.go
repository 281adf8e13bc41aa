package overlay

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// Mend starts to stage a layer as [Store.Begin] does, also if the layer is in the store. Then
// [Staged.Commit] replaces it: the new files get a new folder, and take over the short ID of the
// old ones. So the layers above stay as they are. Mend refuses a layer that is mounted.
func (s *Store) Mend(ctx context.Context, chain, parent, diffID digest.Digest, waiting func()) (*Staged, error) {
	st, err := s.begin(ctx, chain, parent, diffID, waiting)
	if err != nil {
		return nil, err
	}
	if st.mend = s.entryOf(chain).cacheID != ""; !st.mend {
		return st, nil
	}
	if err := st.notInUse(); err != nil {
		s.locks.unlock(layerLock(chain))
		return nil, err
	}
	return st, nil
}

// notInUse refuses a layer that is mounted. It is asked again right before the layer is
// replaced: to fetch it may have taken long.
func (st *Staged) notInUse() error {
	if err := mountsKnown(); err != nil {
		return err
	}
	if at := mounts().of(&st.s.Reader, st.s.entryOf(st.chain)); at.dir != "" {
		return at.refuse(fault.New(fault.Failed, "layer %s is in use: it is mounted at %s", st.diffID, at))
	}
	return nil
}

// replace returns the steps that put a layer in the place of another one. The rename of cache-id
// makes the change visible. The other files of layerdb are the same for both layers.
func (st *Staged) replace(cacheID, short, entry string) []step {
	s := st.s
	old := s.entryOf(st.chain).cacheID
	return []step{
		{"in use", st.notInUse},
		{"note", func() error { return s.announce(cacheID, short) }},
		{"old note", func() error { return s.announce(old, short) }},
		{"committed", func() error {
			if _, err := os.Stat(s.path("overlay2", old, "committed")); err != nil {
				return nil
			}
			return os.WriteFile(filepath.Join(st.dir, "committed"), nil, 0o600)
		}},
		{"files", func() error { return os.Rename(st.dir, s.path("overlay2", cacheID)) }},
		{"entry", func() error {
			if st.parent == "" {
				if err := os.RemoveAll(filepath.Join(entry, "parent")); err != nil {
					return err
				}
			}
			for _, name := range []string{"parent", "diff", "size", "tar-split.json.gz", "cache-id"} {
				if err := os.Rename(filepath.Join(st.meta, name), filepath.Join(entry, name)); err != nil && (name != "parent" || !errors.Is(err, fs.ErrNotExist)) {
					return err
				}
			}
			return nil
		}},
		{"link", func() error { return s.link(cacheID, short) }},
		{"old files", func() error {
			if err := os.Rename(s.path("overlay2", old), st.dir+"-old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return os.Remove(s.path("fastpull/pending", old))
		}},
	}
}

var isShort = regexp.MustCompile(`^[A-Z2-7]{26}$`).MatchString

// shortOf returns the short ID by which the layer is known, to itself or to those
// on top of it, or "".
func (r *Reader) shortOf(chain digest.Digest) string {
	if id := r.entryOf(chain).cacheID; id != "" {
		if data, err := os.ReadFile(r.path("overlay2", id, "link")); err == nil && isShort(strings.TrimSpace(string(data))) {
			return strings.TrimSpace(string(data))
		}
	}
	entries, err := r.entries()
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if e.parent != chain || e.cacheID == "" {
			continue
		}
		data, err := os.ReadFile(r.path("overlay2", e.cacheID, "lower"))
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(strings.TrimSpace(string(data)), ":")
		if short := strings.TrimPrefix(first, "l/"); isShort(short) {
			return short
		}
	}
	return ""
}

// link makes the short ID lead to the layer's files, wherever it led before.
func (s *Store) link(cacheID, short string) error {
	folder, err := s.folder()
	if err != nil {
		return err
	}
	tmp := filepath.Join(folder, randomID(8))
	if err := os.Symlink("../"+cacheID+"/diff", tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, s.path("overlay2/l", short)); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}

// relink makes the short ID that a layer calls its own lead to it.
func (s *Store) relink(cacheID string) error {
	data, err := os.ReadFile(s.path("overlay2", filepath.Base(cacheID), "link"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	short := strings.TrimSpace(string(data))
	if !isShort(short) || s.leadsTo(short, cacheID) {
		return nil
	}
	return s.link(cacheID, short)
}

// unlink removes the short ID if it leads to the layer.
func (s *Store) unlink(cacheID, short string) error {
	if short == "" || !s.leadsTo(filepath.Base(short), cacheID) {
		return nil
	}
	if err := os.Remove(s.path("overlay2/l", filepath.Base(short))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (r *Reader) leadsTo(short, cacheID string) bool {
	to, err := os.Readlink(r.path("overlay2/l", short))
	return err == nil && to == "../"+cacheID+"/diff"
}

// throwAway removes files that were renamed into this process's folder. That may take a while:
// call it when no other process waits for a lock of this one.
func (s *Store) throwAway(names []string) (err error) {
	for _, name := range names {
		err = errors.Join(err, tmpfile.RemoveAll(name))
	}
	return err
}
