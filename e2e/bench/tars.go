package main

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/fastpull/fastpull/internal/sample"
)

// testTar is a plain tar in the cache, and what must come of it.
type testTar struct {
	Name    string `json:"name"`
	Entries int    `json:"entries"`
	Bytes   int64  `json:"bytes"` // of regular files
	Size    int64  `json:"size"`  // of the tar
	DiffID  string `json:"diffID"`

	path string
}

func (t *testTar) String() string {
	return fmt.Sprintf("a plain tar of %.3f GB, %d entries, %.3f GB in files", float64(t.Size)/1e9, t.Entries, float64(t.Bytes)/1e9)
}

func (t *testTar) subject() subject { return subject{t.Name, t.String(), t.Size, t.Entries} }

// tar finds a tar in the cache, or makes it.
func (b *bench) tar(ctx context.Context, kind string) (*testTar, error) {
	if t := b.tars[kind]; t != nil {
		return t, nil
	}
	write, what, err := b.source.content.tar(kind, b.scale)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(what))
	file := filepath.Join(b.cache, "tars", fmt.Sprintf("%s-%x.tar", kind, sum[:4]))
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		b.source.say("%s: making the tar, which is done once", kind)
		err = makeTar(ctx, filepath.Join(b.source.temp, kind+".tar"), file, write)
		if err != nil {
			return nil, fmt.Errorf("make a tar of %s: %w", what, err)
		}
	}
	t, err := scan(ctx, file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	t.Name = kind
	b.source.say("%s: %s", kind, t)
	if b.tars == nil {
		b.tars = make(map[string]*testTar)
	}
	b.tars[kind] = t
	return t, nil
}

// tarWriter writes a plain tar.
type tarWriter func(ctx context.Context, w io.Writer) error

// tar tells how to write a tar, and names it: another content, another name.
func (c content) tar(kind string, scale float64) (write tarWriter, what string, err error) {
	switch kind {
	case python:
		t := pythonTree.scaled(scale)
		return t.write, fmt.Sprintf("%+v", t), nil
	case empty:
		t := emptyTree.scaled(scale)
		return t.write, fmt.Sprintf("%+v", t), nil
	}
	dirs := c.trees[kind]
	if len(dirs) == 0 {
		return nil, "", fmt.Errorf("this machine has no directory for %s", kind)
	}
	l := layer("", dirs)
	return func(ctx context.Context, w io.Writer) error {
		_, err := sample.WriteTar(ctx, w, l)
		return err
	}, fmt.Sprintf("%q", dirs), nil
}

// makeTar writes a tar to the file temp and moves it to its place when it is
// whole.
func makeTar(ctx context.Context, temp, file string, write tarWriter) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.Create(temp)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 256<<10)
	if err := errors.Join(write(ctx, w), w.Flush(), f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, file)
}

// scan reads a whole tar, to tell what must come of it.
func scan(ctx context.Context, file string) (t *testTar, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t = &testTar{path: file}
	sum := sha256.New()
	r := io.TeeReader(bufio.NewReaderSize(f, 256<<10), sum)
	tr := tar.NewReader(r)
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		t.Entries++
		t.Bytes += h.Size
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	if t.Size, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
	t.DiffID = fmt.Sprintf("sha256:%x", sum.Sum(nil))
	return t, nil
}

// warm reads the tar, so that the page cache has it.
func (t *testTar) warm() error {
	f, err := os.Open(t.path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return err
}

// check compares what was extracted into dir with what the tar has: the number
// of files of all kinds, and the bytes in the regular ones.
func (t *testTar) check(ctx context.Context, dir string) error {
	var entries int
	var bytes int64
	seen := make(map[uint64]bool) // of those with several names
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		entries++
		if !e.Type().IsRegular() {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		bytes += info.Size()
		return nil
	})
	if err != nil {
		return fmt.Errorf("look at what was extracted: %w", err)
	}
	if entries != t.Entries || bytes != t.Bytes {
		return fmt.Errorf("%d files with %d bytes were extracted, but %s has %d with %d", entries, bytes, t.Name, t.Entries, t.Bytes)
	}
	return nil
}
