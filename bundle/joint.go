package bundle

import (
	"io"
	"io/fs"
	"os"

	"github.com/fastpull/fastpull/fault"
)

// joint is the files of a bundle, joined to one. It is safe for concurrent use. It notices if a
// file has changed since it was joined.
type joint struct {
	files []*os.File
	were  []fs.FileInfo
	part  int64 // the size of each, but for the last
}

// join joins files of the same size, of which the last may be smaller. It returns the size of
// all.
func join(files []*os.File) (j *joint, size int64, err error) {
	j = &joint{files: files}
	for i, f := range files {
		st, err := f.Stat()
		if err != nil {
			return nil, 0, err
		}
		if !st.Mode().IsRegular() {
			return nil, 0, fault.WithHint(fault.New(fault.Usage, "it is not a file"), "a pipe is read as -, from standard input")
		}
		if i == 0 {
			j.part = st.Size()
		}
		if last := i == len(files)-1; st.Size() > j.part || st.Size() < j.part && !last || i > 0 && st.Size() == 0 {
			return nil, 0, fault.New(fault.Corrupt, "%s has %d bytes, and the first part %d", f.Name(), st.Size(), j.part)
		}
		j.were = append(j.were, st)
		size += st.Size()
	}
	return j, size, nil
}

// Close closes the files.
func (j *joint) Close() error { return closeAll(j.files) }

// changed returns an error if a file has been written to since it was joined.
func (j *joint) changed() error {
	for i, f := range j.files {
		st, err := f.Stat()
		if err != nil {
			return err
		}
		if was := j.were[i]; st.Size() != was.Size() || !st.ModTime().Equal(was.ModTime()) {
			return fault.New(fault.Corrupt, "%s has been written to since it was opened", f.Name())
		}
	}
	return nil
}

// ReadAt implements [io.ReaderAt].
func (j *joint) ReadAt(p []byte, off int64) (n int, err error) {
	if len(j.files) == 1 {
		return j.files[0].ReadAt(p, off)
	}
	for n < len(p) {
		at := off + int64(n)
		i, in := int(at/j.part), at%j.part
		if i >= len(j.files) {
			return n, io.EOF
		}
		m, err := j.files[i].ReadAt(p[n:n+int(min(int64(len(p)-n), j.part-in))], in)
		n += m
		if err != nil && n < len(p) {
			return n, err
		}
	}
	return n, nil
}
