package overlay

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// These functions read Docker's folders instead of filepath.Glob. Glob takes brackets in the
// path of the root for a pattern, and an unreadable folder for an empty one. Code that removes
// what it does not find needs to know the difference.

// contents reads the file of that name in each folder of a folder. A folder that
// has none is not in the map.
func (r *Reader) contents(folder, file string) (map[string]string, error) {
	entries, err := os.ReadDir(r.path(folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, denied(err)
	}
	all := make(map[string]string, len(entries))
	for _, e := range entries {
		data, err := os.ReadFile(r.path(folder, e.Name(), file))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			continue
		}
		if err != nil {
			return nil, denied(err)
		}
		all[e.Name()] = string(data)
	}
	return all, nil
}

// nested lists the files in the folders of a folder, with both names.
func (r *Reader) nested(folder string) (list []string, err error) {
	folders, err := os.ReadDir(r.path(folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, f := range folders {
		if !f.IsDir() {
			continue
		}
		files, err := os.ReadDir(r.path(folder, f.Name()))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			list = append(list, filepath.Join(f.Name(), file.Name()))
		}
	}
	return list, nil
}
