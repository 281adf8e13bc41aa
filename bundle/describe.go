package bundle

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// List describes the contents of the bundle in the form of FILE.json. The time when the bundle
// was made is only in that file. List takes it from there if the file is about this bundle.
func (r *Reader) List() (List, error) {
	l := List{Bundle: filepath.Base(r.name), Size: r.Size(), Index: r.digest, Since: r.since, Images: []ListImage{}}
	whole := r.name
	if p := partOf(r.name); p != "" {
		whole = p
	}
	if beside, err := readBeside(ListName(whole)); err == nil && beside.Index == l.Index && l.Index != "" {
		l.Created, l.Layers, l.Parts = beside.Created, beside.Layers, beside.Parts
	}
	layers, listed := 0, make(map[digest.Digest][]ListImage)
	for _, e := range r.entries {
		images, ok := listed[e.Descriptor.Digest]
		if !ok {
			var err error
			if images, err = r.list(e.Descriptor); err != nil {
				return l, err
			}
			listed[e.Descriptor.Digest] = images
		}
		for _, i := range images {
			i.Name, i.Source = e.Name, e.Source
			l.Images = append(l.Images, i)
			layers += len(i.Layers)
		}
		if layers > maxListed {
			return l, fault.New(fault.Corrupt, "%s: its images have more than %d layers", r.name, maxListed)
		}
	}
	var err error
	l.Referrers, err = r.listReferrers()
	return l, err
}

// maxListed is the most layers that are listed. A small index can name an image of many
// layers again and again.
const maxListed = 1 << 19

// maxBeside is the most that is read of FILE.json, in bytes.
const maxBeside = 16 << 20

// readBeside reads the fields of FILE.json that the bundle does not have.
func readBeside(name string) (l struct {
	Created time.Time     `json:"created"`
	Layers  string        `json:"layers"`
	Parts   []string      `json:"parts"`
	Index   digest.Digest `json:"index"`
}, err error) {
	f, err := os.Open(name)
	if err != nil {
		return l, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBeside))
	if err != nil {
		return l, err
	}
	return l, json.Unmarshal(data, &l)
}

// list describes the images that a descriptor leads to, each once and without its names.
func (r *Reader) list(d ocispec.Descriptor) (all []ListImage, err error) {
	seen := make(map[digest.Digest]bool)
	err = walk(d, func(d ocispec.Descriptor, below bool) ([]ocispec.Descriptor, error) {
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
		li, err := r.listImage(d, m)
		if li != nil {
			all = append(all, *li)
		}
		return nil, err
	})
	return all, err
}

// listImage describes an image; it is nil if fastpull cannot handle it.
func (r *Reader) listImage(d ocispec.Descriptor, m *image.Manifest) (*ListImage, error) {
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
	li := &ListImage{Platform: image.FormatPlatform(img.Platform), Manifest: d.Digest, ImageID: img.ID, Layers: []ListLayer{}}
	for _, l := range img.Layers {
		li.Layers = append(li.Layers, ListLayer{Digest: l.Blob.Digest, Size: l.Blob.Size, DiffID: l.DiffID, Left: !r.has(l.Blob.Digest)})
	}
	return li, nil
}

// Blobs is how many blobs the bundle has.
func (r *Reader) Blobs() (n int) {
	for name := range r.members {
		if _, is := digestOf(name); is {
			n++
		}
	}
	return n
}
