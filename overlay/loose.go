package overlay

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// loose lists the folders and links in overlay2/ that no layer has.
type loose struct{ folders, links []string }

// isFolder reports whether Docker, its builder or fastpull makes folders of that name. Other
// folders in overlay2/ are left alone.
var isFolder = regexp.MustCompile(`^([0-9a-f]{64}|[0-9a-z]{25})(-init|-removing)?$`).MatchString

// loose looks for folders that nothing names. They are listed first and the names
// read afterwards, the notes before the layers: whatever moves into overlay2/ is
// named by one of the two at any time.
func (r *Reader) loose() (l loose, err error) {
	if st, err := os.Lstat(r.path("overlay2")); err == nil && !st.IsDir() {
		return l, nil // a symlink: another root may have the same, and names of its own
	}
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
	for _, dir := range [][2]string{{"sha256", "cache-id"}, {"tmp", "cache-id"}, {"mounts", "mount-id"}, {"mounts", "init-id"}} {
		ids, err := r.contents(filepath.Join("image/overlay2/layerdb", dir[0]), dir[1])
		if err != nil {
			return l, err
		}
		for _, id := range ids {
			named[strings.TrimSpace(id)] = true
		}
	}
	m := mounts()
	var candidates []string
	for _, f := range folders {
		if f.IsDir() && isFolder(f.Name()) && !named[f.Name()] && m[f.Name()].dir == "" {
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

// alone reports whether no other process has the store open. One that has writes down what
// a layer's blob is before the layer is there.
func (s *Store) alone() bool {
	runs, err := os.ReadDir(s.path("fastpull/run"))
	others := slices.DeleteFunc(runs, func(r os.DirEntry) bool { return s.run != nil && r.Name() == s.run.Base() })
	return err == nil && len(others) == 0
}

// pruneBlobs removes the records of blobs whose layers are not in the store.
func (s *Store) pruneBlobs(st *stock, p *Pruned) error {
	if st.unreadable() != "" {
		return nil // it is what the image could be mended with
	}
	have := st.diffIDs()
	const blobs = "image/overlay2/distribution/diffid-by-digest"
	infos, err := s.nested("image/overlay2/distribution/v2metadata-by-diffid")
	if err != nil {
		return err
	}
	for _, rel := range infos {
		if have[digest.Digest(strings.Replace(rel, "/", ":", 1))] {
			continue
		}
		if _, err := s.forgetBlob(rel); err != nil {
			return err
		}
		p.Blobs++
	}
	digests, err := s.nested(blobs)
	if err != nil {
		return err
	}
	for _, rel := range digests {
		name := s.path(blobs, rel)
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
