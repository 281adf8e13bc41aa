package overlay

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Docker's builder has layers of its own. Its databases (buildkit/*.db in the root, in bbolt's
// format) contain chainIDs of layers that need not belong to an image, and names of folders in
// overlay2/ that layerdb does not list. bbolt stores each key and value in one piece, so a
// search for their bytes finds them. It also finds deleted entries that bbolt has not
// overwritten yet. Then a layer stays that could be removed.

// knownToBuilder returns those of the names that stand in a database of Docker's
// builder.
func (r *Reader) knownToBuilder(names []string) (map[string]bool, error) {
	known := make(map[string]bool)
	if len(names) == 0 {
		return known, nil
	}
	files, err := os.ReadDir(r.path("buildkit"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, denied(err)
	}
	for _, f := range files {
		if filepath.Ext(f.Name()) != ".db" {
			continue
		}
		if err := search(r.path("buildkit", f.Name()), names, known); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, denied(err)
		}
	}
	return known, nil
}

// retainBuilders retains the layers of Docker's builder. The builder names them by their
// chainIDs or, before it has recorded those, by the folders from which it made them.
func (r *Reader) retainBuilders(st *stock) error {
	var names []string
	free := st.free()
	for _, e := range free {
		names = append(names, e.chain.Encoded())
		if e.cacheID != "" {
			names = append(names, e.cacheID)
		}
	}
	known, err := r.knownToBuilder(names)
	if err != nil {
		return err
	}
	for _, e := range free {
		if known[e.chain.Encoded()] || known[e.cacheID] {
			st.retain(e.chain, "Docker's builder has it in its cache")
		}
	}
	return nil
}

// search adds the names that a file contains.
func search(file string, names []string, found map[string]bool) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	longest := 0
	for _, n := range names {
		longest = max(longest, len(n))
	}
	buf := make([]byte, 1<<20+longest)
	have := 0
	for {
		n, err := io.ReadFull(f, buf[have:])
		have += n
		for _, name := range names {
			if !found[name] && bytes.Contains(buf[:have], []byte(name)) {
				found[name] = true
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
		have = copy(buf, buf[have-min(have, longest):have]) // a name may be cut in two
	}
}
