package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// list is one of the files beside the blobs.
type list struct {
	name string
	data []byte
}

func bytesReader(b []byte) io.Reader { return bytes.NewReader(b) }

// lists returns the files that list the contents of a bundle. They depend only on its entries
// and images. Without entries there is only manifest.json, which Docker reads.
func lists(entries []ocispec.Descriptor, images []dockerImage, since digest.Digest) (files []list, err error) {
	add := func(name string, v any) {
		data, e := json.Marshal(v)
		if e != nil {
			err = e
		}
		files = append(files, list{name, data})
	}
	if images == nil {
		images = []dockerImage{}
	}
	if len(entries) == 0 {
		add(manifestName, images)
		return files, err
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: entries}
	if since != "" {
		index.Annotations = map[string]string{annotationSince: since.String()}
	}
	add(layoutName, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	add(indexName, index)
	add(manifestName, images)
	add(repositoriesName, repositories(images))
	var sums bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&sums, "%s  %s\n", digest.FromBytes(f.data).Encoded(), f.name)
	}
	return append(files, list{sumsName, sums.Bytes()}), err
}

// repositories is Docker's list of names before there was manifest.json, which
// docker save still writes: repository, tag, and the topmost layer.
func repositories(images []dockerImage) map[string]map[string]string {
	repos := make(map[string]map[string]string)
	for _, img := range images {
		if len(img.Layers) == 0 {
			continue
		}
		for _, name := range img.RepoTags {
			i := strings.LastIndexByte(name, ':')
			if i < 0 {
				continue
			}
			if repos[name[:i]] == nil {
				repos[name[:i]] = make(map[string]string)
			}
			repos[name[:i]][name[i+1:]] = path.Base(img.Layers[len(img.Layers)-1])
		}
	}
	return repos
}
