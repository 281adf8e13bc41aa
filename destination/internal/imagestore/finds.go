package imagestore

import (
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/source"
)

// finds returns an error if containerd would look for the image elsewhere in the indexes that
// lead to it. Of an index it opens one entry: one that names a platform which fits, or else the
// first that names none. A dockerd opens all entries.
func (s *store) finds(img *destination.Image) error {
	if s.c.Namespace() == NamespaceDocker {
		return nil
	}
	next := img.Leaf.Document.Digest
	for _, index := range slices.Backward(append([]*image.Document{img.Top}, img.Nested...)) {
		if index == nil || !index.IsIndex() {
			continue
		}
		if !opens(index.Manifests, next) {
			name := "NAME"
			if img.Ref.Familiar() != source.Unnamed {
				name = img.Ref.Full()
			}
			return fault.WithHint(fault.New(fault.Failed, "containerd would not find the image in its index, which has several and does not say for which platforms"),
				"name the image itself: %s@%s", name, img.Leaf.Document.Digest)
		}
		next = index.Digest
	}
	return nil
}

// opens reports whether containerd opens the entry of a digest.
func opens(entries []ocispec.Descriptor, d digest.Digest) bool {
	if slices.ContainsFunc(entries, func(e ocispec.Descriptor) bool { return e.Digest == d && e.Platform != nil }) {
		return true
	}
	if slices.ContainsFunc(entries, func(e ocispec.Descriptor) bool {
		return e.Platform != nil && image.Runs(image.Host(), image.Normalize(*e.Platform)) > 0
	}) {
		return false
	}
	i := slices.IndexFunc(entries, func(e ocispec.Descriptor) bool { return e.Platform == nil })
	return i >= 0 && entries[i].Digest == d
}
