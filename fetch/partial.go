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

// PartialBlobs has the blobs that a run downloads into files, so that the next run need not
// download them again after a kill. A blob is removed when the image is durable.
//
// A nil PartialBlobs has no files. A PartialBlobs is safe for concurrent use.
type PartialBlobs struct {
	folder *partial.Folder

	mu     sync.Mutex
	opened map[digest.Digest]int64 // the sizes of the blobs that were asked for
	whole  map[digest.Digest]Blob  // complete and verified
}

// PartialDir returns the directory of a store for partial blobs.
func PartialDir(store string) string { return filepath.Join(store, "fastpull/partial") }

// NewPartialBlobs returns PartialBlobs in dir, which is made for the first blob.
func NewPartialBlobs(dir string) *PartialBlobs {
	return &PartialBlobs{folder: partial.In(dir), opened: make(map[digest.Digest]int64), whole: make(map[digest.Digest]Blob)}
}

// Sweep removes blobs that no run has used for a long time. Failures do not matter: a
// later run sweeps again.
func (p *PartialBlobs) Sweep() {
	if p != nil {
		_, _, _ = p.folder.Sweep(time.Now().Add(-partial.Forgotten))
	}
}

// Found returns how many bytes of a blob earlier runs have left.
func (p *PartialBlobs) Found(blob ocispec.Descriptor) int64 {
	if p == nil {
		return 0
	}
	return p.folder.Found(blob.Digest, blob.Size)
}

// Bytes returns how many bytes of this run's blobs are on disk. Call it when all blobs are
// closed.
func (p *PartialBlobs) Bytes() (n int64) {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for d, size := range p.opened {
		n += p.folder.Found(d, size)
	}
	return n
}

// fits reports whether there is enough space for a blob beside what is made of it.
func (p *PartialBlobs) fits(where *disk.Space, size int64) bool {
	return p != nil && where.FitsBlob(p.folder.Dir(), size)
}

// target returns the folder for a blob. It is nil if there is not enough space for the blob
// beside what is made of it.
func (p *PartialBlobs) target(where *disk.Space, blob ocispec.Descriptor) registry.Target {
	if !p.fits(where, blob.Size) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opened[blob.Digest] = blob.Size
	return p.folder
}

// add notes a blob that is complete and verified. One without a file is forgotten: its content may
// be in memory.
func (p *PartialBlobs) add(d digest.Digest, b Blob) {
	if p == nil || b.Came() == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.whole[d] = b
}

// MoveTo moves the file of a blob that was fetched to path. It returns false if the blob has no
// file, or if the file cannot be moved there.
func (p *PartialBlobs) MoveTo(d digest.Digest, path string, durable bool) (bool, error) {
	if p == nil {
		return false, nil
	}
	p.mu.Lock()
	b := p.whole[d]
	p.mu.Unlock()
	if b == nil {
		return false, nil
	}
	return b.MoveTo(path, durable)
}

// Release removes the blobs of an image that is durable: those of this run, and those
// that an earlier run left when it was killed.
func (p *PartialBlobs) Release(blobs []ocispec.Descriptor) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range blobs {
		if b := p.whole[d.Digest]; b != nil {
			_ = b.Discard() // or a later run sweeps it
			delete(p.whole, d.Digest)
		} else {
			_ = p.folder.Remove(d.Digest)
		}
	}
}

// ReleaseAll removes the files of all verified blobs, at the end of a run that needs none of them
// any more.
func (p *PartialBlobs) ReleaseAll() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.whole {
		_ = b.Discard()
	}
	clear(p.whole)
}
