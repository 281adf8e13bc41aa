package overlay

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// holdOthers holds the free layers that Docker's builder has, and those on which a
// folder stands that stays. stray are the folders that do not.
func (r *Reader) holdOthers(st *stock, stray []string) error {
	if err := r.holdBuilders(st); err != nil {
		return err
	}
	return r.holdLowers(st, stray)
}

// holdLowers holds the layers that are in the mounts of containers, of the builder and
// of layers that are held or being made. It goes by what is in the folders, which is
// what Docker mounts: in layerdb a parent may be missing, empty or damaged.
func (r *Reader) holdLowers(st *stock, stray []string) error {
	free := st.free()
	if len(free) == 0 {
		return nil
	}
	goes := make(map[string]bool)
	byID, byShort := make(map[string]digest.Digest), make(map[string]digest.Digest)
	for _, e := range free {
		if e.cacheID == "" {
			continue
		}
		goes[e.cacheID], byID[e.cacheID] = true, e.chain
		if link, err := os.ReadFile(r.path("overlay2", e.cacheID, "link")); err == nil {
			byShort[strings.TrimSpace(string(link))] = e.chain
		}
	}
	lowers, err := r.contents("overlay2", "lower")
	if err != nil {
		return err
	}
	for folder, lower := range lowers {
		if goes[folder] || slices.Contains(stray, folder) {
			continue
		}
		for _, l := range strings.Split(strings.TrimSpace(lower), ":") {
			short := filepath.Base(l)
			chain := byShort[short]
			if chain == "" {
				to, err := os.Readlink(r.path("overlay2/l", short))
				if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EINVAL) {
					return denied(err)
				}
				chain = byID[filepath.Base(filepath.Dir(to))]
			}
			st.hold(chain, "overlay2/"+folder+" stands on it")
		}
	}
	return nil
}
