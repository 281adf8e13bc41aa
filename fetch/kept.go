package fetch

import (
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/internal/partial"
	"github.com/fastpull/fastpull/registry"
)

// Kept are the blobs of a run that stay on disk, so that a run which is killed need not
// download them again. A blob is removed when what was made of it is durable.
//
// A nil Kept keeps no blobs. A Kept is safe for concurrent use.
type Kept struct {
	folder *partial.Folder

	mu     sync.Mutex
	opened map[digest.Digest]int64 // the sizes of the blobs that were asked for
	whole  map[digest.Digest]Blob  // complete and verified
}

// PartialDir returns the directory of a store for partial blobs.
func PartialDir(store string) string { return filepath.Join(store, "fastpull/partial") }

// KeepIn keeps blobs in dir, which is made when the first one needs it.
func KeepIn(dir string) *Kept {
	return &Kept{folder: partial.In(dir), opened: make(map[digest.Digest]int64), whole: make(map[digest.Digest]Blob)}
}

// Sweep removes blobs that no run has used for a long time. Failures do not matter: a
// later run sweeps again.
func (k *Kept) Sweep() {
	if k != nil {
		_, _, _ = k.folder.Sweep(time.Now().Add(-partial.Forgotten))
	}
}

// Found returns how many bytes of a blob earlier runs have left.
func (k *Kept) Found(blob ocispec.Descriptor) int64 {
	if k == nil {
		return 0
	}
	return k.folder.Found(blob.Digest, blob.Size)
}

// Bytes returns how many bytes of the blobs that were asked for are on disk. Call it when all
// blobs are closed.
func (k *Kept) Bytes() (n int64) {
	if k == nil {
		return 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for d, size := range k.opened {
		n += k.folder.Found(d, size)
	}
	return n
}

// keeps reports whether there is enough space for a blob beside what is made of it.
func (k *Kept) keeps(where *disk.Space, size int64) bool {
	return k != nil && where.FitsBlob(k.folder.Dir(), size)
}

// place returns where a blob is kept, nil if there is not enough space for it beside what is
// made of it.
func (k *Kept) place(where *disk.Space, blob ocispec.Descriptor) registry.Place {
	if !k.keeps(where, blob.Size) {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opened[blob.Digest] = blob.Size
	return k.folder
}

// add notes a blob that is complete and verified.
func (k *Kept) add(d digest.Digest, b Blob) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.whole[d] = b
}

// MoveTo makes the file of a blob that was fetched the file at path. It returns false if the
// blob was not kept, or cannot be moved there.
func (k *Kept) MoveTo(d digest.Digest, path string, durable bool) (bool, error) {
	if k == nil {
		return false, nil
	}
	k.mu.Lock()
	b := k.whole[d]
	k.mu.Unlock()
	if b == nil {
		return false, nil
	}
	return b.MoveTo(path, durable)
}

// Release removes the blobs of an image that is durable: those of this run, and those
// that an earlier run left when it was killed.
func (k *Kept) Release(blobs []ocispec.Descriptor) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range blobs {
		if b := k.whole[d.Digest]; b != nil {
			_ = b.Discard() // or a later run sweeps it
			delete(k.whole, d.Digest)
		} else {
			_ = k.folder.Remove(d.Digest)
		}
	}
}

// ReleaseAll removes all verified blobs, at the end of a run that brought all images.
func (k *Kept) ReleaseAll() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.whole {
		_ = b.Discard()
	}
	clear(k.whole)
}
