package containerdfiles

import (
	"context"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/plugins/content/local"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// blobs is a content store that is only read. Its other methods are not called.
type blobs struct {
	content.Store
	dir string
}

// ReaderAt implements [content.Store].
func (b blobs) ReaderAt(_ context.Context, d ocispec.Descriptor) (content.ReaderAt, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, err
	}
	return local.OpenReader(filepath.Join(b.dir, "blobs", d.Digest.Algorithm().String(), d.Digest.Encoded()))
}

// lookOnly is a snapshotter that is only looked at. Its other methods are not called.
type lookOnly struct {
	snapshots.Snapshotter
	ms *storage.MetaStore
}

// Stat implements [snapshots.Snapshotter].
func (l lookOnly) Stat(ctx context.Context, key string) (info snapshots.Info, err error) {
	err = l.ms.WithTransaction(ctx, false, func(ctx context.Context) error {
		_, info, _, err = storage.GetInfo(ctx, key)
		return err
	})
	return info, err
}

// Close implements [snapshots.Snapshotter].
func (l lookOnly) Close() error { return l.ms.Close() }
