package imagestore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
)

// maxLabel is how many bytes the name and the value of a label may have together.
const maxLabel = 4096

// label adds labels to a blob, and the repository that has it. What it has already is not
// written again.
func (s *store) label(ctx context.Context, d digest.Digest, ref registry.Reference, labels map[string]string) error {
	s.labeling.Lock()
	defer s.labeling.Unlock()
	have, err := s.c.StatBlob(ctx, d)
	if err != nil {
		return fmt.Errorf("look for %s in containerd: %w", d, err)
	}
	lacks := maps.Clone(labels)
	if lacks == nil {
		lacks = make(map[string]string)
	}
	if name, value := origin(ref, have.Labels); value != "" {
		lacks[name] = value
	}
	maps.DeleteFunc(lacks, func(name, value string) bool { return have.Labels[name] == value })
	if len(lacks) == 0 {
		return nil
	}
	if err := s.c.LabelBlob(ctx, d, lacks); err != nil {
		return fmt.Errorf("label %s in containerd: %w", d, err)
	}
	return nil
}

// withOrigin returns labels with that of the repository that has a blob, for one that is new.
// Programs that watch containerd read the labels that a blob comes with.
func withOrigin(ref registry.Reference, labels map[string]string) map[string]string {
	all := maps.Clone(labels)
	if all == nil {
		all = make(map[string]string)
	}
	if name, value := origin(ref, nil); value != "" {
		all[name] = value
	}
	return all
}

// origin returns the label by which a push finds a repository that has the blob already,
// with the repository of ref added to those in it. value is "" if there is none to add.
func origin(ref registry.Reference, have map[string]string) (name, value string) {
	if ref.Familiar() == source.Unnamed {
		return "", ""
	}
	host, repository, _ := strings.Cut(ref.Full(), "/")
	if end := strings.LastIndexByte(host, ':'); end >= 0 {
		host = host[:end]
	}
	name = "containerd.io/distribution.source." + strings.Trim(host, "[]")
	var all []string
	if old := have[name]; old != "" {
		all = strings.Split(old, ",")
	}
	if !slices.Contains(all, repository) {
		all = append(all, repository)
	}
	slices.Sort(all)
	if value = strings.Join(all, ","); len(name)+len(value) > maxLabel {
		return "", ""
	}
	return name, value
}

// childLabels returns the labels that keep what a document refers to from the garbage
// collection. They are numbered in the order of the document. With Options.Lean a
// manifest keeps no layers, as with containerd's discard_unpacked_layers.
func (s *store) childLabels(m *image.Manifest) map[string]string {
	labels := make(map[string]string)
	if !m.IsIndex() {
		labels["containerd.io/gc.ref.content.config"] = m.Config.Digest.String()
		if s.lean {
			return labels
		}
		for i, l := range m.Layers {
			labels[fmt.Sprintf("containerd.io/gc.ref.content.l.%d", i)] = l.Digest.String()
		}
		return labels
	}
	counts := make(map[string]int)
	for _, d := range m.Manifests {
		kind := "containerd.io/gc.ref.content."
		if isManifest(d) {
			kind += "m."
		}
		labels[fmt.Sprintf("%s%d", kind, counts[kind])] = d.Digest.String()
		counts[kind]++
	}
	return labels
}

// isManifest reports whether a descriptor says that it is of an image's manifest.
func isManifest(d ocispec.Descriptor) bool {
	return d.MediaType == ocispec.MediaTypeImageManifest || d.MediaType == image.DockerManifest
}
