package pull

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

// graphForm is Docker's archive, for an Engine with a graph driver: config, plain layers,
// and tags. The Engine names the image by the digest of its config.
type graphForm struct{ t *engineTarget }

func (f *graphForm) needsAll() bool                  { return false }
func (f *graphForm) keepsBlobs() bool                { return false }
func (f *graphForm) sweep(context.Context, *sending) {}

func (f *graphForm) holds(ctx context.Context, _ digest.Digest, img *image.Image) (bool, error) {
	return f.t.e.HasImage(ctx, img.ID)
}

func (f *graphForm) name(ctx context.Context, ref registry.Reference, _ digest.Digest, img *image.Image) error {
	return f.t.tag(ctx, ref, img.ID)
}

func (f *graphForm) finish(s *sending) error {
	s.archive.Docker(s.im.img, tags(s.im.ref), diffIDs(s.im.img))
	return s.document(s.im.img.Config)
}

func (f *graphForm) prove(ctx context.Context, s *sending) error {
	img := s.im.img
	if err := f.t.e.Verify(ctx, img.ID, diffIDs(img)); err != nil {
		return err
	}
	if err := f.t.verifyTags(ctx, s.im.ref, img.ID); err != nil {
		return err
	}
	if s.im.ref.Tag() == "" {
		f.t.r.Progress.Note("%s has no tag: the Engine knows the image as %s", s.im.ref, img.ID)
	}
	return nil
}

// tag makes the image, by its ID in the Engine, what the reference's tag names.
func (t *engineTarget) tag(ctx context.Context, ref registry.Reference, id digest.Digest) error {
	for _, name := range tags(ref) {
		has, err := t.e.TagOf(ctx, name)
		if err == nil && has != id {
			err = t.e.Tag(ctx, id, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// verifyTags checks that the reference's tag leads to the image.
func (t *engineTarget) verifyTags(ctx context.Context, ref registry.Reference, id digest.Digest) error {
	for _, name := range tags(ref) {
		if err := t.e.VerifyName(ctx, id, name); err != nil {
			return err
		}
	}
	return nil
}

func diffIDs(img *image.Image) []digest.Digest {
	list := make([]digest.Digest, len(img.Layers))
	for i, l := range img.Layers {
		list[i] = l.DiffID
	}
	return list
}

// plainForm is an OCI layout with a manifest of its own over plain layers. It is for an
// Engine with containerd's store that cannot tell what it has of an image (before Docker
// 28), or that cannot store the registry's manifest: every layer is sent each time, and
// the digest is not the registry's.
type plainForm struct{ t *engineTarget }

func (f *plainForm) needsAll() bool                  { return true }
func (f *plainForm) keepsBlobs() bool                { return false }
func (f *plainForm) sweep(context.Context, *sending) {}

func (f *plainForm) holds(context.Context, digest.Digest, *image.Image) (bool, error) {
	return false, nil
}

func (f *plainForm) name(context.Context, registry.Reference, digest.Digest, *image.Image) error {
	return nil
}

// manifest makes the manifest, which is that of a bundle with plain layers.
func (f *plainForm) manifest(s *sending) ([]byte, error) {
	layers, err := s.plainLayers()
	if err != nil {
		return nil, err
	}
	return bundle.Manifest(s.im.own.Bytes, s.im.img, layers)
}

func (f *plainForm) finish(s *sending) error {
	manifest, err := f.manifest(s)
	if err != nil {
		return err
	}
	s.archive.Entry(bundle.Entry{
		Name:       fullName(s.im.ref),
		Descriptor: descriptorOf(ocispec.MediaTypeImageManifest, manifest),
	}.Annotated())
	return s.documents(manifest, s.im.img.Config)
}

func (f *plainForm) prove(ctx context.Context, s *sending) error {
	manifest, err := f.manifest(s)
	if err != nil {
		return err
	}
	id := digest.FromBytes(manifest)
	if err := f.t.e.TryContainer(ctx, id, &s.im.img.Platform); err != nil {
		return err
	}
	if err := f.t.verifyTags(ctx, s.im.ref, id); err != nil {
		return err
	}
	f.t.r.Progress.Note("%s is %s in this Engine, and %s in the registry: docker pull would fetch it again", s.im.ref, id, s.im.found)
	return nil
}

// plainLayers returns the descriptors of the layers as plain tars. Those that were left
// out have no size.
func (s *sending) plainLayers() (list []ocispec.Descriptor, err error) {
	for _, l := range s.im.img.Layers {
		if l.DiffID.Algorithm() != digest.SHA256 {
			return nil, fault.New(fault.Failed, "layer %s: an Engine with containerd's store takes diffIDs of SHA-256 only", l.DiffID)
		}
		list = append(list, ocispec.Descriptor{MediaType: bundle.Plain.LayerType(), Digest: l.DiffID, Size: s.sizes[l.DiffID]})
	}
	return list, nil
}

// documents adds small blobs to the archive.
func (s *sending) documents(list ...[]byte) error {
	for _, data := range list {
		if err := s.document(data); err != nil {
			return err
		}
	}
	return nil
}

func descriptorOf(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}
