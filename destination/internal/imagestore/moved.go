package imagestore

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/destination"
)

// A large blob is downloaded into a file and verified there. If the content store is on the
// same file system, the file becomes the blob in it: nothing is copied, and containerd need
// not hash the blob once more. Then containerd finds the blob as one that it has in another
// namespace, and takes it without reading it.
//
// If this process is killed in between, the file has no entry in containerd's database, and
// the next garbage collection removes it.

// fetchAndMove fetches what is missing of a layer, and moves its blob into the content store
// if that is possible. Otherwise the blob is written there from its file.
func (s *store) fetchAndMove(ctx context.Context, m *made, b *blob, how destination.How, fill func(io.Reader) error) (err error) {
	if m.st != nil {
		err = m.content.Plain(ctx, how, fill)
	} else {
		err = m.content.Blob(ctx, how, func(r io.Reader, _ bool) error { _, err := io.Copy(io.Discard, r); return err })
	}
	if err != nil {
		return err
	}
	path := s.blobPath(m.Blob.Digest)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { // containerd makes it for its first blob
		return err
	}
	moved, err := m.content.MoveTo(path, !s.env.NoSync)
	if moved && err == nil {
		moved, err = b.found(ctx)
	}
	if moved || err != nil {
		return err
	}
	return m.content.Blob(ctx, how, func(r io.Reader, _ bool) error { return b.take(ctx, r) })
}

// blobPath returns the path of a blob in the content store.
func (s *store) blobPath(d digest.Digest) string {
	return filepath.Join(s.reach.Content, "blobs", d.Algorithm().String(), d.Encoded())
}

// found reports whether containerd sees the blob that was moved into its content store, so
// that finish only has to commit it.
func (b *blob) found(ctx context.Context) (bool, error) {
	if err := b.open(ctx); err != nil || b.there {
		return b.there, err
	}
	if b.w.Offset() == b.l.Blob.Size {
		return true, nil
	}
	return false, b.leave(ctx) // namespaces share no blobs here, or the garbage collection came between
}
