package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// tree is a tree of files that is not taken from this machine but made up. The
// same tree gives the same tar everywhere.
type tree struct {
	Files, Dirs int
	Empty       bool // files without content
}

// The trees at their full size.
var (
	// Like what pip leaves in a site-packages.
	pythonTree = tree{Files: 100_000, Dirs: 5_000}
	emptyTree  = tree{Files: 1_000_000, Dirs: 1_000, Empty: true}
)

// scaled is the tree with fewer files, or more.
func (t tree) scaled(by float64) tree {
	t.Files = max(1, int(float64(t.Files)*by))
	t.Dirs = max(1, int(float64(t.Dirs)*by))
	return t
}

// write writes the tree as a plain tar, its directories in the order of their
// names and each with its files behind it.
func (t tree) write(ctx context.Context, to io.Writer) error {
	random := rand.New(rand.NewPCG(uint64(t.Files), uint64(t.Dirs)))
	dirs := t.dirs(random)
	files := make([]int, len(dirs))
	for range t.Files {
		files[random.IntN(len(files))]++
	}
	text := prose(random)
	w := tar.NewWriter(to)
	for i, dir := range dirs {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.WriteHeader(t.header(tar.TypeDir, dir+"/", 0o755)); err != nil {
			return err
		}
		for n := range files[i] {
			h := t.header(tar.TypeReg, fmt.Sprintf("%s/module_%04d.py", dir, n), 0o644)
			if !t.Empty {
				h.Size = fileSize(random)
			}
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			from := random.IntN(len(text) - maxFile)
			if _, err := w.Write(text[from : from+int(h.Size)]); err != nil {
				return err
			}
		}
	}
	return w.Close()
}

// files writes the tree as files below a directory, which it makes.
func (t tree) files(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	in, out := io.Pipe()
	go func() { out.CloseWithError(t.write(ctx, out)) }()
	defer in.Close() // ends the goroutine
	r := tar.NewReader(in)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := writeEntry(filepath.Join(dir, h.Name), h, r); err != nil {
			return err
		}
	}
}

// writeEntry makes a directory or a regular file.
func writeEntry(name string, h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeDir {
		return os.Mkdir(name, h.FileInfo().Mode())
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, h.FileInfo().Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close(), os.Chtimes(name, h.ModTime, h.ModTime))
}

func (tree) header(kind byte, name string, mode int64) *tar.Header {
	return &tar.Header{Typeflag: kind, Name: name, Mode: mode, ModTime: time.Unix(1_600_000_000, 0), Format: tar.FormatUSTAR}
}

// dirs makes names up: packages, and packages in them down to the fourth level.
func (t tree) dirs(random *rand.Rand) []string {
	names, depth := []string{"site-packages"}, []int{0}
	for len(names) < t.Dirs {
		parent := 0
		if random.IntN(5) > 0 {
			parent = random.IntN(len(names))
		}
		if depth[parent] == 4 {
			continue
		}
		names = append(names, fmt.Sprintf("%s/package_%04d", names[parent], len(names)))
		depth = append(depth, depth[parent]+1)
	}
	slices.Sort(names)
	return names
}

// maxFile is the size of the largest file.
const maxFile = 1 << 20

// fileSize draws a size as they are found in such trees: one file in twenty is
// empty, the others are spread lognormally around 3 KiB, so that one in two
// hundred has more than 100 KiB.
func fileSize(random *rand.Rand) int64 {
	if random.IntN(20) == 0 {
		return 0
	}
	return int64(min(maxFile, math.Exp(math.Log(3<<10)+1.4*random.NormFloat64())))
}

// prose is a text to cut files from.
func prose(random *rand.Rand) []byte {
	const letters = "abcdefghijklmnopqrstuvwxyz_    \n"
	text := make([]byte, 2*maxFile)
	for i := range text {
		text[i] = letters[random.IntN(len(letters))]
	}
	return text
}
