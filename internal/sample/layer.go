package sample

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Layer says what is in a layer. A name that several of its parts have is
// written once, for the first of them.
type Layer struct {
	// Text is files with a text in them: their names in the layer, and the
	// texts. They have mode 0644, belong to root and are from 1970.
	Text map[string]string
	// Trees come after them, in this order.
	Trees []Tree
}

// Tree is a directory of this machine, or a file, and all below it.
type Tree struct {
	Path string
	// As is its name in the layer, such as "usr/local/go"; "." is the layer's
	// root. "" is the same as Path.
	As string
}

func (t Tree) name() string {
	as := t.As
	if as == "" {
		as = t.Path
	}
	return strings.TrimPrefix(path.Clean("/"+as), "/")
}

// String says in short what is in the layer.
func (l Layer) String() string {
	parts := slices.Sorted(maps.Keys(l.Text))
	for _, t := range l.Trees {
		part := t.Path
		if t.As != "" {
			part += " as /" + t.name()
		}
		parts = append(parts, part)
	}
	return "sample of " + strings.Join(parts, ", ")
}

// blob is a layer that was made: a file, with its digests and counts.
type blob struct {
	path           string
	digest, diffID v1.Hash
	size, plain    int64
	entries        int
}

var _ v1.Layer = (*blob)(nil)

func (b *blob) Digest() (v1.Hash, error)             { return b.digest, nil }
func (b *blob) DiffID() (v1.Hash, error)             { return b.diffID, nil }
func (b *blob) Size() (int64, error)                 { return b.size, nil }
func (b *blob) MediaType() (types.MediaType, error)  { return types.DockerLayer, nil }
func (b *blob) Compressed() (io.ReadCloser, error)   { return os.Open(b.path) }
func (b *blob) Uncompressed() (io.ReadCloser, error) { return openPlain(b.path) }

// plainFile is a gzip file that is read plain.
type plainFile struct {
	*gzip.Reader
	f *os.File
}

func openPlain(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &plainFile{z, f}, nil
}

func (p *plainFile) Close() error { return errors.Join(p.Reader.Close(), p.f.Close()) }

// writeLayer makes a layer as a file in dir.
func writeLayer(ctx context.Context, dir string, l Layer) (b *blob, err error) {
	f, err := os.CreateTemp(dir, "making-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	out := &sink{ctx: ctx, w: f, sum: sha256.New()}
	buffered := bufio.NewWriterSize(out, 256<<10)
	z := gzip.NewWriter(buffered)
	plain := &sink{ctx: ctx, w: z, sum: sha256.New()}
	entries, err := WriteTar(ctx, plain, l)
	if err != nil {
		return nil, err
	}
	for _, end := range []func() error{z.Close, buffered.Flush} {
		if err := end(); err != nil {
			return nil, fmt.Errorf("write a layer: %w", err)
		}
	}
	b = &blob{
		digest: out.hash(), size: out.n,
		diffID: plain.hash(), plain: plain.n, entries: entries,
	}
	b.path = filepath.Join(dir, b.digest.Hex)
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		return nil, err
	}
	if err := os.Rename(f.Name(), b.path); err != nil {
		return nil, err
	}
	return b, f.Close()
}

// WriteTar writes a layer as a plain tar, and returns how many entries it has.
// No two of them have the same name.
func WriteTar(ctx context.Context, to io.Writer, l Layer) (entries int, err error) {
	w := newTarWriter(to)
	if err := w.layer(ctx, l); err != nil {
		return 0, err
	}
	if err := w.tw.Close(); err != nil {
		return 0, fmt.Errorf("write a layer: %w", err)
	}
	return w.entries, nil
}

// sink passes bytes on, hashes and counts them. It holds a context since Write
// has none: a file of gigabytes would otherwise be written to its end.
type sink struct {
	ctx context.Context
	w   io.Writer
	sum hash.Hash
	n   int64
}

func (s *sink) Write(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.w.Write(p)
	s.sum.Write(p[:n])
	s.n += int64(n)
	return n, err
}

func (s *sink) hash() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(s.sum.Sum(nil))}
}

// tarWriter writes the entries of a layer.
type tarWriter struct {
	tw      *tar.Writer
	entries int
	names   map[string]bool  // that were written, directories without a slash
	links   map[inode]string // the first name of files that have several
	buf     []byte
}

func newTarWriter(w io.Writer) *tarWriter {
	return &tarWriter{
		tw: tar.NewWriter(w), names: make(map[string]bool), links: make(map[inode]string),
		buf: make([]byte, 256<<10),
	}
}

func (w *tarWriter) layer(ctx context.Context, l Layer) error {
	for _, name := range slices.Sorted(maps.Keys(l.Text)) {
		if err := w.text(Tree{As: name}.name(), l.Text[name]); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	for _, t := range l.Trees {
		if err := w.tree(ctx, t); err != nil {
			return err
		}
	}
	return nil
}
