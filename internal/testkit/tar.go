package testkit

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
)

// File is an entry of a tar. The size in its header is set when it is written; a mode of 0
// becomes 0644.
type File struct {
	tar.Header
	Content string
}

// Text returns a regular file.
func Text(name, content string) File { return File{tar.Header{Name: name}, content} }

// Tar returns a tar, written by the standard library. It panics if a header cannot be
// written.
func Tar(files ...File) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := f.Header
		h.Size = int64(len(f.Content))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.Typeflag == 0 && !strings.HasSuffix(h.Name, "/") {
			h.Typeflag = tar.TypeReg
		}
		err := w.WriteHeader(&h)
		if err == nil {
			_, err = io.WriteString(w, f.Content)
		}
		if err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// Compress returns data in the format of a writer, such as one of gzip. It panics if the
// writer fails.
func Compress[W io.WriteCloser](open func(io.Writer) (W, error), data []byte) []byte {
	var b bytes.Buffer
	w, err := open(&b)
	if err == nil {
		_, err = w.Write(data)
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		panic(err)
	}
	return b.Bytes()
}
