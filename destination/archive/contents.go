package archive

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// key returns the digest that determines a layer's bytes in the archive.
func (p *packer) key(l image.Layer) digest.Digest {
	if p.form == bundle.Keep {
		return l.Blob.Digest
	}
	return l.DiffID
}

func (p *packer) keys(layers []image.Layer) (list []digest.Digest) {
	for _, l := range layers {
		list = append(list, p.key(l))
	}
	return list
}

// descriptors are what an image's layers are in the archive, or in the one before.
func (p *packer) descriptors(img *image.Image) (list []ocispec.Descriptor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range img.Layers {
		d, ok := p.written[p.key(l)]
		if !ok {
			d = p.left[p.key(l)]
		}
		list = append(list, d)
	}
	return list
}

func (p *packer) digests(img *image.Image) (list []digest.Digest) {
	for _, d := range p.descriptors(img) {
		list = append(list, d.Digest)
	}
	return list
}

// agree makes sure that the manifests of the archive do not contradict each other about a
// blob. Manifests are kept as the registry has them, and the blob is fetched for the first
// one. An archive with a contradiction would fail its verification.
func (p *packer) agree(b *bundled) error {
	if p.form != bundle.Keep {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range b.all() {
		old, known := p.said[l.Blob.Digest]
		if !known || old.DiffID == "" {
			p.said[l.Blob.Digest] = l
		}
		if known && old.Blob.Size != l.Blob.Size {
			return fault.New(fault.Corrupt, "blob %s is named with %d bytes and with %d", l.Blob.Digest, old.Blob.Size, l.Blob.Size)
		}
		if known && old.DiffID != l.DiffID && old.DiffID != "" && l.DiffID != "" {
			return fault.New(fault.Corrupt, "layer %s has the diffID %s in one image and %s in another", l.Blob.Digest, old.DiffID, l.DiffID)
		}
	}
	return nil
}

// all are the layers of the images, and as layers of no image what else is kept.
func (b *bundled) all() (list []image.Layer) {
	for _, im := range b.images {
		if im.img != nil {
			list = append(list, im.img.Layers...)
		}
		for _, d := range im.also {
			list = append(list, image.Layer{Blob: d})
		}
	}
	for _, f := range b.referrers {
		for _, d := range f.blobs {
			list = append(list, image.Layer{Blob: d})
		}
	}
	return list
}

// blobs returns the layers of all of b's images, and what else is kept as it is,
// each once, in the order in which they are written.
func (p *packer) blobs(b *bundled) []image.Layer {
	all := make(map[digest.Digest]image.Layer)
	for _, l := range b.all() {
		// An Engine that has the layer on other layers cannot use it for this image: it does
		// not give it back.
		if _, ok := p.left[p.key(l)]; !ok || !p.older.HasChain(l.ChainID) {
			all[p.key(l)] = l
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b image.Layer) int {
		return cmp.Or(cmp.Compare(b.Blob.Size, a.Blob.Size), strings.Compare(p.key(a).String(), p.key(b).String()))
	})
}

// missing returns the layers that are not in the archive. Those that another image
// is about to write are among them: the caller holds them all, so that they are
// there when it asks for them.
func (p *packer) missing(layers []image.Layer) []image.Layer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(layers), func(l image.Layer) bool {
		_, ok := p.written[p.key(l)]
		return ok
	})
}

// leaveOut notes the layers that an older bundle has in the same form.
func (p *packer) leaveOut(old *bundle.Reader) {
	p.older = old
	for _, l := range old.Layers() {
		if p.form == bundle.Keep {
			p.left[l.Blob.Digest] = l.Blob
			p.said[l.Blob.Digest] = image.Layer{Blob: l.Blob, DiffID: l.DiffID}
			continue
		}
		if l.Blob.MediaType = old.LayerType(l); l.Blob.MediaType == p.form.LayerType() {
			p.left[l.DiffID] = l.Blob
		}
	}
}
