package overlay

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// taken is a directory that was moved out of sight.
type taken struct {
	files []string     // what is to be deleted
	back  func() error // moves it back
	full  bool         // there was no space for a folder
}

// aside moves a directory of the store into this process's folder, where no process looks for
// it. It needs no space: if there is none for the folder, the directory becomes the folder. Then
// the caller must move nothing else there until it is certain that the directory does not go
// back.
func (s *Store) aside(dir string) (taken, error) {
	folder, err := s.folder()
	if disk.Full(err) {
		return s.adopt(dir)
	}
	if err != nil {
		return taken{}, err
	}
	to := filepath.Join(folder, randomID(8))
	return taken{files: []string{to}, back: func() error { return os.Rename(to, dir) }}, os.Rename(dir, to)
}

func (s *Store) adopt(dir string) (taken, error) {
	run, err := tmpfile.Adopt(s.runs, dir)
	if errors.Is(err, fs.ErrNotExist) { // it was not there, or another process has swept it
		return taken{back: func() error { return err }, full: true}, nil
	}
	if err != nil {
		return taken{}, err
	}
	s.live(run)
	t := taken{back: func() error {
		s.rest()
		s.run = nil
		return run.Return(dir)
	}, full: true}
	entries, err := os.ReadDir(run.Path)
	for _, e := range entries {
		t.files = append(t.files, filepath.Join(run.Path, e.Name()))
	}
	return t, err
}

// discard moves a directory of the store, which goes for good, into b.
func (s *Store) discard(dir string, b *bin) error {
	t, err := s.aside(dir)
	if err != nil {
		return err
	}
	b.now = b.now || t.full
	return b.add(t.files)
}

// bin has files to delete that were moved out of sight. The caller empties it after it has
// unlocked the lists, since that may take a while. On a full disk, files are deleted at once.
type bin struct {
	s     *Store
	files []string
	freed int64 // bytes that what was deleted took on the disk
	now   bool
}

func (b *bin) add(files []string) error {
	b.files = append(b.files, files...)
	if b.now {
		return b.empty()
	}
	return nil
}

func (b *bin) empty() error {
	for _, name := range b.files {
		b.freed += diskUse(name)
	}
	files := b.files
	b.files = nil
	return b.s.throwAway(files)
}

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
