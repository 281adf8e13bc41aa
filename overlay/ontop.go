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

// retainOthers retains the free layers of Docker's builder, and those below a folder that
// stays. stray lists the folders that do not stay.
func (r *Reader) retainOthers(st *stock, stray []string) error {
	if err := r.retainBuilders(st); err != nil {
		return err
	}
	return r.retainLowers(st, stray)
}

// retainLowers retains the layers that are mounted for containers, for the builder, and for
// layers that are retained or being made. It reads the folders' lower files, which Docker
// mounts: in layerdb a parent may be missing, empty or damaged.
func (r *Reader) retainLowers(st *stock, stray []string) error {
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
			st.retain(chain, "overlay2/"+folder+" stands on it")
		}
	}
	return nil
}
