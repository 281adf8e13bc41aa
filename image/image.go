package image

import (
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/jsonlimit"
)

// Layer is one layer of an image.
type Layer struct {
	Blob    ocispec.Descriptor // what the registry has: compressed, as a rule
	DiffID  digest.Digest      // digest of the plain tar
	ChainID digest.Digest      // names this layer on top of those under it
	Parent  digest.Digest      // chainID of the layer under it, "" for the base
}

// Image is one platform's image: its config and its layers, the base first.
type Image struct {
	ID       digest.Digest    // digest of Config
	Config   []byte           // the very bytes
	Platform ocispec.Platform // without an architecture if the config has none
	Created  time.Time        // zero where the config does not say
	Layers   []Layer
}

// Size returns the bytes of all layers as they are in the registry.
func (img *Image) Size() (n int64) {
	for _, l := range img.Layers {
		n += l.Blob.Size
	}
	return n
}

// New joins a manifest of [ParseManifest] with the bytes of its config. Errors are of
// kind [fault.Corrupt]. What a destination can take is another question: see
// [CheckDocker].
func New(m *Manifest, config []byte) (*Image, error) {
	if m.IsIndex() {
		return nil, fault.New(fault.Corrupt, "an index stands where an image's manifest should be")
	}
	if got := m.Config.Digest.Algorithm().FromBytes(config); got != m.Config.Digest {
		return nil, fault.New(fault.Corrupt, "the config hashes to %s, the manifest says %s", got, m.Config.Digest)
	}
	img, err := Parse(config)
	if err != nil {
		return nil, err
	}
	if len(m.Layers) != len(img.Layers) {
		return nil, fault.New(fault.Corrupt, "the manifest has %d layers, the config has %d diffIDs",
			len(m.Layers), len(img.Layers))
	}
	for i := range img.Layers {
		img.Layers[i].Blob = m.Layers[i]
	}
	return img, nil
}

// Parse reads an image's config alone: the result is complete except for the
// Blob of each layer, which a config does not have.
func Parse(config []byte) (*Image, error) {
	var c struct {
		ocispec.Platform
		Created json.RawMessage `json:"created"`
		RootFS  struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := jsonlimit.Unmarshal(config, &c); err != nil {
		return nil, fault.New(fault.Corrupt, "the config cannot be read: %w", err)
	}
	img := &Image{
		ID:     digest.FromBytes(config),
		Config: config,
		// What else a config says of the system is about Windows.
		Platform: Normalize(ocispec.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}),
		Layers:   make([]Layer, len(c.RootFS.DiffIDs)),
	}
	if json.Unmarshal(c.Created, &img.Created) != nil {
		img.Created = time.Time{} // nothing depends on it
	}
	for i, d := range c.RootFS.DiffIDs {
		if err := checkDigest(d); err != nil {
			return nil, err
		}
		l := Layer{DiffID: d}
		if i > 0 {
			l.Parent = img.Layers[i-1].ChainID
		}
		l.ChainID = ChainID(l.Parent, d)
		img.Layers[i] = l
	}
	return img, nil
}

// ChainID returns the chainID of the layer with that diffID on a parent, "" for none
// (image-spec, config.md).
func ChainID(parent, diffID digest.Digest) digest.Digest {
	if parent == "" {
		return diffID
	}
	return identity.ChainID([]digest.Digest{parent, diffID})
}
