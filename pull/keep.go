package pull

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/partial"
	"github.com/fastpull/fastpull/registry"
)

// keeper has the blobs of a run that are kept on disk. They stay until what was
// made of them is there for good: who is killed just before must not have to fetch
// them again.
type keeper struct {
	folder *partial.Folder // nil: nothing is kept

	mu    sync.Mutex
	whole map[digest.Digest]blob // and verified
}

// PartialDir is where a store has the blobs that are not whole.
func PartialDir(store string) string { return filepath.Join(store, "fastpull/partial") }

// keepIn makes dir the folder of the run, and removes from it what nobody has
// asked for in a long time. It is not worth an error if that fails.
func (r *run) keepIn(dir string) {
	if r.NoResume || dir == "" {
		return
	}
	r.keeper.folder = partial.In(dir)
	if r.DryRun {
		return
	}
	_, _, _ = r.keeper.folder.Sweep(time.Now().Add(-partial.Forgotten))
}

// keep opens a blob. It is kept on disk if there is room for it beside what is
// made of it, and of the others that are yet to come.
func (r *run) keep(ctx context.Context, ref registry.Reference, l image.Layer, where *space) (blob, error) {
	var in registry.Place
	if folder := r.keeper.folder; folder != nil && where.leaves(folder.Dir(), l.Blob.Size) {
		in = folder
	}
	return r.keepAt(ctx, ref, l, in)
}

// keepAt opens a blob that is kept in a given place, nil for none.
func (r *run) keepAt(ctx context.Context, ref registry.Reference, l image.Layer, in registry.Place) (blob, error) {
	return r.src.Keep(ctx, ref, l.Blob, in, func() {
		r.Progress.Note("another fastpull is fetching layer %.19s, reading along", l.Blob.Digest)
	})
}

// hold notes a blob that is whole, and verified.
func (k *keeper) hold(d digest.Digest, b blob) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.whole == nil {
		k.whole = make(map[digest.Digest]blob)
	}
	k.whole[d] = b
}

// release removes the blobs of an image that is there for good: those of this run,
// and those of one that was killed before it could do so.
func (k *keeper) release(blobs []ocispec.Descriptor) {
	if k.folder == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range blobs {
		if b := k.whole[d.Digest]; b != nil {
			_ = b.Discard() // or it is swept some day
			delete(k.whole, d.Digest)
		} else {
			_ = k.folder.Remove(d.Digest)
		}
	}
}

// releaseAll removes all blobs: the run has brought what it was asked for.
func (k *keeper) releaseAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.whole {
		_ = b.Discard()
	}
	clear(k.whole)
}

// expands is what is reckoned with for a blob's content, in room that it takes.
const expands = 4

// leaves tells if n bytes may be written to dir, which need not be there yet,
// so that there is still plenty of room for what is to come of blobs.
func (s *space) leaves(dir string, n int64) bool {
	free, err := lookAt(dir)
	for errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		free, err = lookAt(dir)
	}
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	due := n
	for _, b := range s.blobs {
		due += min(b.left, math.MaxInt64/expands/2-due)
	}
	return due < math.MaxInt64/expands/2 && free.bytes-n > expands*due
}
