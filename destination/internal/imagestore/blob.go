package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/fetch"
)

// blob is a layer's blob on its way into the content store.
type blob struct {
	s       *store
	l       wanted
	there   bool // it is in the content store
	moves   bool // its file will be moved there
	skipped bool // it is not, and is not written there: Options.Lean
	ref     string
	resumed bool // its first bytes are those of an earlier pull
	w       Writer
}

// openBlob finds out whether a blob is in the content store, and keeps it there.
func (s *store) openBlob(ctx context.Context, l wanted) (*blob, error) {
	b := &blob{s: s, l: l}
	if err := s.c.LeaseBlob(ctx, l.Blob.Digest); err != nil {
		return nil, fmt.Errorf("keep a blob in containerd: %w", err)
	}
	_, err := s.c.StatBlob(ctx, l.Blob.Digest)
	if b.there = err == nil; b.there || !errdefs.IsNotFound(err) {
		return b, err
	}
	if b.skipped = s.lean; b.skipped {
		return b, nil
	}
	b.moves = s.reach.Content != "" && l.content.HasFile(destination.How{Space: s.space})
	// It may be there in another namespace, or have been fetched and not committed.
	if err := b.open(ctx); err != nil || b.there {
		return b, err
	}
	if b.w.Offset() < l.Blob.Size {
		return b, b.leave(ctx) // until it is fetched, another process may have the ref
	}
	err = b.w.Commit(l.Blob.Digest, withOrigin(l.ref, nil))
	if b.w = nil; errdefs.IsFailedPrecondition(err) {
		return b, s.c.AbortWrite(ctx, b.ref)
	}
	b.there = err == nil
	return b, err
}

// open begins to write the blob. It uses the ref of containerd's own pulls, so that fastpull and
// containerd continue each other's downloads. If another process has that ref, open uses a ref
// of this run, and containerd keeps one of the two blobs. A blob that is moved into the store
// always uses a ref of this run.
func (b *blob) open(ctx context.Context) (err error) {
	shared := "layer-" + b.l.Blob.Digest.String()
	refs := []string{shared, shared + "-" + b.s.lease}
	if b.moves {
		refs = refs[1:]
	}
	for _, b.ref = range refs {
		b.w, err = b.s.c.WriteBlob(ctx, b.ref, b.l.Blob.Digest, b.l.Blob.Size)
		if !errdefs.IsUnavailable(err) {
			break
		}
	}
	if errdefs.IsAlreadyExists(err) {
		b.there, err = true, nil
	}
	if err != nil {
		return fmt.Errorf("write a blob into containerd: %w", err)
	}
	return nil
}

// take writes the blob. It is called again, and starts over, if the blob was damaged.
func (b *blob) take(ctx context.Context, r io.Reader) (err error) {
	if b.w == nil {
		err = b.open(ctx)
	} else {
		err = b.w.Restart()
	}
	if err != nil {
		return err
	}
	if b.there {
		_, err = io.Copy(io.Discard, r)
		return err
	}
	b.resumed = b.w.Offset() > 0
	if _, err = io.CopyN(io.Discard, r, b.w.Offset()); err == nil {
		_, err = b.w.ReadFrom(r)
	}
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("write the blob into containerd: %w", err)
	}
	return err
}

// finish makes the blob visible, with labels and with where it came from.
func (b *blob) finish(ctx context.Context, labels map[string]string) error {
	if b.skipped {
		return nil
	}
	if !b.there {
		err := b.w.Commit(b.l.Blob.Digest, withOrigin(b.l.ref, labels))
		b.w = nil
		if errdefs.IsFailedPrecondition(err) && b.resumed {
			err = fault.WithHint(fault.New(fault.Corrupt, "what an earlier pull has left of the blob in containerd is damaged: %w", err), "try again: it was removed")
			return errors.Join(err, b.s.c.AbortWrite(ctx, b.ref))
		}
		if err != nil {
			return fmt.Errorf("commit the blob in containerd: %w", err)
		}
	}
	return b.s.label(ctx, b.l.Blob.Digest, b.l.ref, labels)
}

// leave ends the writer of a blob that is not there. Under the ref that other pulls use, their
// bytes stay. The ref of a blob that moves has none, and is removed.
func (b *blob) leave(ctx context.Context) error {
	err := b.close()
	if b.moves {
		err = errors.Join(err, b.s.c.AbortWrite(ctx, b.ref))
	}
	return err
}

// close ends the writer. What was written stays for the next one while the lease is there.
func (b *blob) close() (err error) {
	if b.w != nil {
		err = b.w.Close()
	}
	b.w = nil
	return err
}

// stored is a blob that is read from the content store.
type stored struct {
	io.ReadCloser
	n int64
}

// openStored opens a blob of the content store.
func (s *store) openStored(ctx context.Context, d digest.Digest) (fetch.Blob, error) {
	r, err := s.c.OpenBlob(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("read a blob of containerd: %w", err)
	}
	return &stored{ReadCloser: r}, nil
}

// Read implements [io.Reader].
func (b *stored) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}

// Fetched implements [fetch.Blob]. Nothing is downloaded.
func (b *stored) Fetched() int64 { return 0 }

// Came implements [fetch.Blob].
func (b *stored) Came() <-chan struct{} { return nil }

// Whole implements [fetch.Blob].
func (b *stored) Whole() (n int64, all bool) { return b.n, true }

// InSection implements [fetch.Blob].
func (b *stored) InSection() bool { return false }

// Discard implements [fetch.Blob]. The blob belongs to containerd.
func (b *stored) Discard() error { return nil }

// Distrust implements [fetch.Blob].
func (b *stored) Distrust() error { return nil }

// MoveTo implements [fetch.Blob]. The blob is where it belongs.
func (b *stored) MoveTo(string, bool) (bool, error) { return false, nil }
