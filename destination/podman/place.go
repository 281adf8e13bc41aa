//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/safepath"
)

// vacant returns the error that a later take would have, as far as that can be known.
func (s *store) vacant() error {
	place, err := safepath.Lookup(s.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its parents will be made, too
	}
	if err != nil {
		return err
	}
	defer place.Close()
	if place.Type != 0 {
		_, err = s.take()
		return err
	}
	above, err := place.OpenFile(".", os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer above.Close()
	_, err = place.PathOf(above, place.Base)
	return err
}

// take opens the directory of the store, and returns a path that leads to it, whatever other
// users do. Only trusted users may be able to write to it.
func (s *store) take() (path string, err error) {
	if s.dir == nil {
		if s.dir, err = safepath.Make(s.root, 0o700); err != nil {
			return "", err
		}
	}
	if err := s.dir.Own(); err != nil {
		return "", err
	}
	if s.dir.Settled() {
		return s.root, nil
	}
	return s.dir.Path()
}
