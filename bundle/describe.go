package bundle

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/image"
)

// List describes what the bundle has, as FILE.json does. When it was made is in
// that file alone, which is believed if it is about this bundle.
func (r *Reader) List() (List, error) {
	l := List{Bundle: filepath.Base(r.name), Size: r.Size(), Index: r.index, Since: r.since, Images: []ListImage{}}
	var beside List
	whole := r.name
	if p := partOf(r.name); p != "" {
		whole = p
	}
	if data, err := os.ReadFile(ListName(whole)); err == nil && json.Unmarshal(data, &beside) == nil && beside.Index == l.Index && l.Index != "" {
		l.Created, l.Layers, l.Parts = beside.Created, beside.Layers, beside.Parts
	}
	for _, e := range r.entries {
		images, err := r.list(e)
		if err != nil {
			return l, err
		}
		l.Images = append(l.Images, images...)
	}
	var err error
	l.Referrers, err = r.listReferrers()
	return l, err
}

// list describes the images of an entry, each once.
func (r *Reader) list(e Entry) (all []ListImage, err error) {
	seen := make(map[digest.Digest]bool)
	err = walk(e.Descriptor, func(d ocispec.Descriptor, below bool) ([]ocispec.Descriptor, error) {
		if seen[d.Digest] {
			return nil, nil
		}
		seen[d.Digest] = true
		data, err := r.ReadBlob(d, maxDocument)
		if errors.Is(err, ErrNotHere) && below {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		m, err := image.ParseManifest(d.MediaType, data)
		if err != nil {
			return nil, nil // no image
		}
		if m.IsIndex() {
			return m.Manifests, nil
		}
		li, err := r.listImage(e, d, m)
		if li != nil {
			all = append(all, *li)
		}
		return nil, err
	})
	return all, err
}

// listImage describes an image; it is nil if fastpull cannot handle it.
func (r *Reader) listImage(e Entry, d ocispec.Descriptor, m *image.Manifest) (*ListImage, error) {
	config, err := r.ReadBlob(m.Config, maxDocument)
	if err != nil {
		return nil, err
	}
	img, err := image.New(m, config)
	if err != nil {
		return nil, nil
	}
	if d.Platform != nil {
		img.Platform = image.Complete(img.Platform, *d.Platform)
	}
	li := &ListImage{Name: e.Name, Source: e.Source, Platform: image.FormatPlatform(img.Platform), Manifest: d.Digest, ImageID: img.ID, Layers: []ListLayer{}}
	for _, l := range img.Layers {
		_, here := r.members[blobName(l.Blob.Digest)]
		li.Layers = append(li.Layers, ListLayer{Digest: l.Blob.Digest, Size: l.Blob.Size, DiffID: l.DiffID, Left: !here})
	}
	return li, nil
}

// Blobs is how many blobs the bundle has.
func (r *Reader) Blobs() (n int) {
	for name := range r.members {
		if filepath.Dir(filepath.Dir(name)) == "blobs" {
			n++
		}
	}
	return n
}
