//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"os"

	"github.com/fastpull/fastpull/internal/safepath"
)

// vacant returns the error that a later take would have, as far as that can be known.
func (s *store) vacant() error {
	if _, err := os.Lstat(s.root); err == nil {
		_, err = s.take()
		return err
	}
	return safepath.Makeable(s.root)
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
