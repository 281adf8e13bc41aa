package image

import (
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// Limits of what an index may lead to. Real ones have one index in another, and some
// dozens of manifests.
const (
	maxDepth   = 4       // indexes below the topmost one
	maxEntries = 1 << 16 // entries of all indexes, counted each time they are reached
)

// Entry is an entry of an index, or of an index in it.
type Entry struct {
	ocispec.Descriptor
	// Path has the entry's position in its index, preceded by the positions of the
	// indexes that lead there. Paths sort in the order of the walk.
	Path []int
	// In has the digests of the indexes below the topmost one that lead to the entry.
	In []digest.Digest
	// Above is the platform of the nearest index that has one, among those that lead to
	// the entry. It is nil if none has.
	Above *ocispec.Platform
}

// Flat returns the entry's descriptor for use in a topmost index, where it has to name its
// platform itself.
func (e Entry) Flat() ocispec.Descriptor {
	d := e.Descriptor
	if d.Platform == nil && !e.Aside() {
		d.Platform = e.Above
	}
	return d
}

// Walk calls visit for each entry of an index, in order. If the entry is an index, visit
// returns what that has, and Walk goes through it before the next entry. An error of
// visit ends the walk.
//
// A digest that occurs twice is visited twice. Errors of Walk itself are of kind
// [fault.Failed]: the indexes are nested too deep, or have too many entries.
func Walk(list []ocispec.Descriptor, visit func(Entry) ([]ocispec.Descriptor, error)) error {
	w := walk{visit: visit}
	return w.index(list, Entry{})
}

type walk struct {
	visit func(Entry) ([]ocispec.Descriptor, error)
	n     int
}

// index goes through what an index has. at is its own entry.
func (w *walk) index(list []ocispec.Descriptor, at Entry) error {
	if len(at.Path) > maxDepth && len(list) > 0 {
		return fault.New(fault.Failed, "the index has indexes in it that are nested more than %d deep", maxDepth)
	}
	within, above := at.In, cmp.Or(at.Platform, at.Above)
	if len(at.Path) > 0 {
		within = append(slices.Clip(within), at.Digest)
	}
	for i, d := range list {
		if w.n++; w.n > maxEntries {
			return fault.New(fault.Failed, "the index and those in it have more than %d entries", maxEntries)
		}
		e := Entry{Descriptor: d, Path: append(slices.Clip(at.Path), i), In: within, Above: above}
		below, err := w.visit(e)
		if err == nil {
			err = w.index(below, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
