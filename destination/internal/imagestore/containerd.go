package imagestore

import (
	"context"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/containerdapi"
)

// Containerd has an image store. Its calls are about one namespace, and one snapshotter.
// Errors are those of package errdefs: NotFound, AlreadyExists, Unavailable for a ref that
// another writer has, and FailedPrecondition for content with another digest.
type Containerd interface {
	// Namespace returns the namespace of the calls.
	Namespace() string
	// CreateLease makes a lease that expires, with a name of its own, and returns the name.
	CreateLease(ctx context.Context, prefix string, expires time.Duration) (string, error)
	// DeleteLease deletes a lease. With sync, what no image has is gone when it returns.
	DeleteLease(ctx context.Context, id string, sync bool) error
	// Leased returns a Containerd that adds what it makes to a lease.
	Leased(lease string) Containerd

	// LeaseBlob adds a blob to the lease, whose deletion releases it.
	LeaseBlob(context.Context, digest.Digest) error
	StatBlob(context.Context, digest.Digest) (containerdapi.Blob, error)
	// LabelBlob sets labels of a blob. Its other labels stay.
	LabelBlob(context.Context, digest.Digest, map[string]string) error
	// ReadBlob returns the bytes of a small blob, and OpenBlob opens a blob. The bytes are
	// not verified.
	ReadBlob(ctx context.Context, d digest.Digest, limit int64) ([]byte, error)
	OpenBlob(context.Context, digest.Digest) (io.ReadCloser, error)
	// WriteBlob begins to write a blob under a ref, or goes on with it.
	WriteBlob(ctx context.Context, ref string, d digest.Digest, size int64) (Writer, error)
	// AbortWrite removes what was written under a ref.
	AbortWrite(ctx context.Context, ref string) error

	// SetImages gives an image its names, whatever they led to before.
	SetImages(ctx context.Context, names []string, target ocispec.Descriptor, labels map[string]string) error

	Snapshots() Snapshots
	Close() error
}

// Writer writes a blob; see [containerdapi.Writer].
type Writer interface {
	Offset() int64
	io.ReaderFrom
	Restart() error
	Commit(digest.Digest, map[string]string) error
	io.Closer
}

// Snapshots are those of the snapshotter; see [containerdapi.Snapshots].
type Snapshots interface {
	Name() string
	Stat(ctx context.Context, key string) (containerdapi.Snapshot, error)
	Prepare(ctx context.Context, key, parent string, labels map[string]string) ([]*containerdapi.Mount, error)
	Commit(ctx context.Context, name, key, parent string, labels map[string]string) error
	Remove(ctx context.Context, key string) error
	// Lease adds a snapshot to the lease, which keeps its parents too.
	Lease(ctx context.Context, key string) error
}

// Unpacker is implemented by a [Containerd] that unpacks layers itself. One whose snapshots
// are out of reach has to be an Unpacker.
type Unpacker interface {
	// Apply unpacks a plain tar of the content store, and returns its digest.
	Apply(context.Context, ocispec.Descriptor, []*containerdapi.Mount) (digest.Digest, error)
}
