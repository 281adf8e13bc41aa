package imagestore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
)

// labelManaged marks the images that the kubelet sees.
const labelManaged = "io.cri-containerd.image"

// publish stores the documents of an image, each after what it refers to, and gives it its
// names. The layers are there.
func (s *store) publish(ctx context.Context, img *destination.Image, k *known) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	unpacked := make(map[string]string)
	if id := top(k.img); id != "" {
		unpacked["containerd.io/gc.ref.snapshot."+s.snaps.Name()] = id.String()
	}
	config := k.docs[0].Config.Digest
	if err := s.put(ctx, img.Ref, "config-", config, k.img.Config, unpacked); err != nil {
		return err
	}
	for _, doc := range k.docs {
		kind := "manifest-"
		if doc.IsIndex() {
			kind = "index-"
		}
		if err := s.put(ctx, img.Ref, kind, doc.Digest, doc.Bytes, s.childLabels(doc.Manifest)); err != nil {
			return err
		}
	}
	last := k.docs[len(k.docs)-1]
	target := ocispec.Descriptor{MediaType: last.Type(), Digest: last.Digest, Size: int64(len(last.Bytes))}
	names, labels := s.names(img.Ref, img.Found, config)
	err := s.c.SetImages(ctx, names, target, labels)
	if err == nil {
		s.named.Store(true)
	}
	return err
}

// put stores a document with its labels, or adds the labels to one that is there.
func (s *store) put(ctx context.Context, ref registry.Reference, kind string, d digest.Digest, data []byte, labels map[string]string) error {
	w, err := s.c.WriteBlob(ctx, kind+d.String()+"-"+s.lease, d, int64(len(data)))
	if errdefs.IsAlreadyExists(err) {
		return s.label(ctx, d, ref, labels)
	}
	if err != nil {
		return fmt.Errorf("write %s into containerd: %w", d, err)
	}
	defer w.Close()
	if w.Offset() == 0 {
		if _, err := w.ReadFrom(bytes.NewReader(data)); err != nil {
			return fmt.Errorf("write %s into containerd: %w", d, err)
		}
	}
	if err := w.Commit(d, withOrigin(ref, labels)); err != nil {
		return fmt.Errorf("write %s into containerd: %w", d, err)
	}
	return s.label(ctx, d, ref, labels)
}

// names returns what an image is called, and the labels of the names. The kubelet knows an
// image by its tag, its digest and its ID.
func (s *store) names(ref registry.Reference, found, config digest.Digest) (names []string, labels map[string]string) {
	byDigest := ref.Full() + "@" + found.String()
	switch {
	case s.c.Namespace() == NamespaceCRI:
		if tag := ref.FullTag(); tag != "" {
			names = append(names, tag)
		}
		if ref.Familiar() != source.Unnamed {
			names = append(names, byDigest)
		}
		return append(names, config.String()), map[string]string{labelManaged: "managed"}
	case ref.Familiar() == source.Unnamed && s.c.Namespace() == NamespaceDocker:
		return []string{"moby-dangling@" + found.String()}, nil
	}
	return []string{cmp.Or(ref.FullTag(), byDigest)}, nil
}
