package overlay

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// loose is what is in overlay2/ and leads nowhere.
type loose struct{ folders, links []string }

// loose looks for folders that nothing names. They are listed first and the names
// read afterwards, the notes before the layers: whatever moves into overlay2/ is
// named by one of the two at any time.
func (r *Reader) loose() (l loose, err error) {
	folders, err := os.ReadDir(r.path("overlay2"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	named := map[string]bool{"l": true}
	notes, err := os.ReadDir(r.path("fastpull/pending"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	for _, n := range notes {
		named[n.Name()] = true
	}
	// Docker has layers that are being made in tmp/, and renames those that are
	// being removed.
	for _, pattern := range []string{"sha256/*/cache-id", "tmp/*/cache-id", "mounts/*/mount-id", "mounts/*/init-id"} {
		files, err := filepath.Glob(r.path("image/overlay2/layerdb", pattern))
		if err != nil {
			return l, err
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return l, err
			}
			named[strings.TrimSpace(string(data))] = true
		}
	}
	m := mounts()
	var candidates []string
	for _, f := range folders {
		if f.IsDir() && !named[f.Name()] && m[f.Name()] == "" {
			candidates = append(candidates, f.Name())
		}
	}
	known, err := r.knownToBuilder(candidates)
	if err != nil {
		return l, err
	}
	l.folders = slices.DeleteFunc(candidates, func(name string) bool { return known[name] })

	links, err := os.ReadDir(r.path("overlay2/l"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	for _, f := range links {
		to, err := os.Readlink(r.path("overlay2/l", f.Name()))
		if err != nil {
			continue
		}
		if named[filepath.Base(filepath.Dir(to))] {
			continue // also where it is damaged: that link is a part of it
		}
		if _, err := os.Lstat(r.path("overlay2/l", to)); errors.Is(err, fs.ErrNotExist) || slices.Contains(l.folders, filepath.Base(filepath.Dir(to))) {
			l.links = append(l.links, f.Name())
		}
	}
	return l, nil
}

// alone tells if no other process has the store open. One that has writes down what
// a layer's blob is before the layer is there.
func (s *Store) alone() bool {
	runs, err := os.ReadDir(s.path("fastpull/run"))
	return err == nil && len(runs) == 1
}

// pruneBlobs removes what is known of blobs whose layers are not there.
func (s *Store) pruneBlobs(st *stock, p *Pruned) error {
	if st.unreadable() != "" {
		return nil // it is what the image could be mended with
	}
	have := st.diffIDs()
	dir := s.path("image/overlay2/distribution")
	infos, err := filepath.Glob(dir + "/v2metadata-by-diffid/*/*")
	if err != nil {
		return err
	}
	for _, name := range infos {
		rel := filepath.Base(filepath.Dir(name)) + "/" + filepath.Base(name)
		if have[digest.Digest(strings.Replace(rel, "/", ":", 1))] {
			continue
		}
		if _, err := s.forgetBlob(rel); err != nil {
			return err
		}
		p.Blobs++
	}
	blobs, err := filepath.Glob(dir + "/diffid-by-digest/*/*")
	if err != nil {
		return err
	}
	for _, name := range blobs {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if !have[digest.Digest(strings.TrimSpace(string(data)))] {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}
