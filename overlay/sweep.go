package overlay

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/tmpfile"
)

// sweep removes what processes that are gone have left outside of their folders, which
// were removed before.
func (s *Store) sweep() error {
	pending, err := os.ReadDir(s.path("fastpull/pending"))
	if err != nil {
		return err
	}
	var failures []error
	for _, p := range pending {
		sweep := s.sweepPending
		if isRemoval(p.Name()) {
			sweep = s.finishRemoval
		}
		// What another note leads to may be the space that this one lacks.
		failures = append(failures, sweep(p.Name()))
	}
	return errors.Join(failures...)
}

// announce writes a note to fastpull/pending before a layer moves into overlay2/. The note is
// removed when layerdb names the layer. The same is done before a layer is taken out of
// layerdb, and that note is removed with its files. A note without a running process means
// that the layer can be removed, unless layerdb names it.
//
// The note's content is the folder of the process, and the short ID.
func (s *Store) announce(cacheID, short string) error {
	if _, err := s.folder(); err != nil {
		return err
	}
	return s.writeNote(cacheID, s.run.Base()+" "+short)
}

// writeNote writes a note as a whole. It does not flush it, since the layer of the note is not
// on the disk either.
func (s *Store) writeNote(cacheID, content string) error {
	folder, err := s.folder()
	if err != nil {
		return err
	}
	tmp := filepath.Join(folder, randomID(8))
	if err := os.WriteFile(tmp, []byte(content), 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, s.path("fastpull/pending", cacheID)); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}

func (s *Store) sweepPending(cacheID string) error {
	note := s.path("fastpull/pending", cacheID)
	data, err := os.ReadFile(note)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // its process is at work
		}
		return err
	}
	run, short, _ := strings.Cut(string(data), " ")
	if run != "" {
		if _, err := os.Stat(s.path("fastpull/run", filepath.Base(run))); !errors.Is(err, fs.ErrNotExist) {
			return err // nil if it is alive: dead ones were swept before
		}
	}
	named, err := s.namesCacheID(cacheID)
	if err != nil {
		return err
	}
	if named {
		// It may have taken the place of another one, whose link it has.
		if err := s.relink(cacheID); err != nil {
			return err
		}
	} else {
		if err := s.unlink(cacheID, short); err != nil {
			return err
		}
		if err := s.stageAgain(cacheID); err != nil {
			return err
		}
		if err := tmpfile.RemoveAll(s.path("overlay2", filepath.Base(cacheID))); err != nil {
			return err
		}
	}
	if err := os.Remove(note); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// namesCacheID reports whether some layer of layerdb has its files there.
func (r *Reader) namesCacheID(cacheID string) (bool, error) {
	layers, err := os.ReadDir(r.path("image/overlay2/layerdb/sha256"))
	if err != nil {
		return false, err
	}
	for _, l := range layers {
		data, err := os.ReadFile(r.path("image/overlay2/layerdb/sha256", l.Name(), "cache-id"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			continue // not fastpull's work, and it names nothing
		}
		if err != nil {
			return false, err
		}
		if strings.TrimSpace(string(data)) == cacheID {
			return true, nil
		}
	}
	return false, nil
}
