package containerdfiles

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/containerdapi"
	"github.com/fastpull/fastpull/fault"
)

// copySize is how much of a blob is written at once.
const copySize = 1 << 20

func (s *Store) content() content.Store { return s.r.meta.ContentStore() }

// LeaseBlob does nothing: no garbage is collected before the lease is deleted.
func (s *Store) LeaseBlob(context.Context, digest.Digest) error { return nil }

// StatBlob describes a blob. The error for a blob that does not exist is a NotFound.
func (s *Store) StatBlob(ctx context.Context, d digest.Digest) (containerdapi.Blob, error) {
	info, err := s.content().Info(s.in(ctx), d)
	return containerdapi.Blob{Size: info.Size, Labels: info.Labels}, err
}

// LabelBlob sets labels of a blob. Its other labels stay.
func (s *Store) LabelBlob(ctx context.Context, d digest.Digest, labels map[string]string) error {
	var paths []string
	for name := range labels {
		paths = append(paths, "labels."+name)
	}
	_, err := s.content().Update(s.in(ctx), content.Info{Digest: d, Labels: labels}, paths...)
	return err
}

// ReadBlob returns the bytes of a small blob. They are not verified.
func (s *Store) ReadBlob(ctx context.Context, d digest.Digest, limit int64) ([]byte, error) {
	ra, err := s.content().ReaderAt(s.in(ctx), ocispec.Descriptor{Digest: d})
	if err != nil {
		return nil, err
	}
	defer ra.Close()
	if size := ra.Size(); size > limit {
		return nil, fault.New(fault.Corrupt, "%s has %d bytes, more than %d", d, size, limit)
	}
	return io.ReadAll(content.NewReader(ra))
}

// OpenBlob opens a blob. Its bytes are not verified.
func (s *Store) OpenBlob(ctx context.Context, d digest.Digest) (io.ReadCloser, error) {
	ra, err := s.content().ReaderAt(s.in(ctx), ocispec.Descriptor{Digest: d})
	if err != nil {
		return nil, err
	}
	return &reader{content.NewReader(ra), sync.OnceValue(ra.Close)}, nil
}

// reader reads a blob. It may be closed several times.
type reader struct {
	io.Reader
	close func() error
}

// Close implements [io.Closer].
func (r *reader) Close() error { return r.close() }

// Writer writes a blob into the content store. The bytes that were written stay there
// under the writer's ref when it is closed, and the next writer goes on with them.
type Writer struct {
	ctx    context.Context // of the call
	w      content.Writer
	offset int64
}

// WriteBlob begins to write a blob under a ref, which names the attempt. size may be 0, if
// it is not known. The error is an AlreadyExists if the blob is there, and an Unavailable
// if another writer has the ref.
func (s *Store) WriteBlob(ctx context.Context, ref string, d digest.Digest, size int64) (*Writer, error) {
	w, err := s.content().Writer(s.in(ctx), content.WithRef(ref), content.WithDescriptor(ocispec.Descriptor{Digest: d, Size: size}))
	if err != nil {
		return nil, err
	}
	st, err := w.Status()
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &Writer{s.in(ctx), w, st.Offset}, nil
}

// AbortWrite removes what was written under a ref.
func (s *Store) AbortWrite(ctx context.Context, ref string) error {
	err := s.content().Abort(s.in(ctx), ref)
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// Offset returns how many bytes of the blob were written. If the content store has the blob
// for another namespace, or without an entry, it is all of them: then only Commit is left to
// do.
func (w *Writer) Offset() int64 { return w.offset }

// ReadFrom implements [io.ReaderFrom].
func (w *Writer) ReadFrom(r io.Reader) (n int64, err error) {
	n, err = io.CopyBuffer(struct{ io.Writer }{w.w}, struct{ io.Reader }{r}, make([]byte, copySize))
	w.offset += n
	return n, err
}

// Restart throws away what was written so far.
func (w *Writer) Restart() error {
	if w.offset == 0 {
		return nil
	}
	w.offset = 0
	return w.w.Truncate(0)
}

// Commit makes the blob visible, if its bytes hash to its digest: otherwise the error is a
// FailedPrecondition. A blob that is there meanwhile is no error, but does not get the
// labels.
func (w *Writer) Commit(d digest.Digest, labels map[string]string) error {
	err := w.w.Commit(w.ctx, w.offset, d, content.WithLabels(labels))
	if errdefs.IsAlreadyExists(err) {
		err = nil
	}
	return errors.Join(err, w.Close())
}

// Close ends the writer.
func (w *Writer) Close() error { return w.w.Close() }
