package bundle

import (
	"context"
	"encoding/json"
	"path"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/codec"
	"github.com/fastpull/fastpull/internal/jsonlimit"
)

// readDocker makes manifests for the images of manifest.json.
func (p *parser) readDocker(ctx context.Context) error {
	if _, ok := p.find(manifestName); !ok {
		return fault.New(fault.Corrupt, "it has neither %s nor %s: it is no archive of images", indexName, manifestName)
	}
	data, err := p.document(manifestName)
	if err != nil {
		return err
	}
	var images []dockerImage
	if err := jsonlimit.Unmarshal(data, &images); err != nil {
		return fault.New(fault.Corrupt, "%s: %w", manifestName, err)
	}
	layers := make(map[member]ocispec.Descriptor)
	for _, item := range images {
		d, err := p.synthesize(ctx, item, layers)
		if err != nil {
			return err
		}
		for _, tag := range item.RepoTags {
			p.entries = append(p.entries, Entry{Name: tag, Descriptor: d})
		}
		if len(item.RepoTags) == 0 {
			p.entries = append(p.entries, Entry{Descriptor: d})
		}
	}
	return nil
}

// synthesize makes the manifest of an image of a docker-archive. Layers has those that
// were read before: images have layers in common.
func (p *parser) synthesize(ctx context.Context, item dockerImage, layers map[member]ocispec.Descriptor) (ocispec.Descriptor, error) {
	config, err := p.document(path.Clean(item.Config))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	m.Config = p.adopt(ocispec.MediaTypeImageConfig, path.Clean(item.Config), digest.FromBytes(config))
	for _, name := range item.Layers {
		name = path.Clean(name)
		at, ok := p.find(name)
		if !ok {
			return ocispec.Descriptor{}, fault.New(fault.Corrupt, "layer %q is missing in it", name)
		}
		l, ok := layers[at]
		if !ok {
			content := p.open(at)
			format, err := codec.Of(content)
			if err != nil {
				return ocispec.Descriptor{}, err
			}
			d, err := digest.FromReader(until{ctx, content})
			if err != nil {
				return ocispec.Descriptor{}, err
			}
			l = p.adopt(format.MediaType(), name, d)
			layers[at] = l
		}
		m.Layers = append(m.Layers, l)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	p.made[d.Digest] = raw
	return d, nil
}
