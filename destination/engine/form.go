package engine

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

// form is the form in which an Engine gets an image, and what proves that it has it.
type form interface {
	// hasImage reports whether the Engine has the whole image, which found names.
	hasImage(ctx context.Context, found digest.Digest, img *image.Image) (bool, error)
	// name gives the reference's names to an image that the Engine has.
	name(ctx context.Context, ref registry.Reference, found digest.Digest, img *image.Image) error
	// needsAll reports whether layers that the Engine has are sent all the same.
	needsAll() bool
	// sendsBlobs reports whether the blobs of the registry are sent beside plain layers.
	sendsBlobs() bool
	// finish writes to the archive what follows the layers.
	finish(s *sending) error
	// prove makes sure that the image that was sent can be used, and is what its names
	// lead to. The error wraps daemon.ErrLayerMissing if layers were left out that the
	// Engine lacks, and errBlobsDropped if nothing was.
	prove(ctx context.Context, s *sending) error
	// sweep removes from the Engine what was there for the load alone, also if that
	// failed, or ctx has ended.
	sweep(ctx context.Context, s *sending)
}

// graphForm is Docker's archive, for an Engine with a graph driver: config, plain layers,
// and tags. The Engine names the image by the digest of its config.
type graphForm struct{ e *engine }

func (f *graphForm) needsAll() bool                  { return false }
func (f *graphForm) sendsBlobs() bool                { return false }
func (f *graphForm) sweep(context.Context, *sending) {}

func (f *graphForm) hasImage(ctx context.Context, _ digest.Digest, img *image.Image) (bool, error) {
	return f.e.api.HasImage(ctx, img.ID)
}

func (f *graphForm) name(ctx context.Context, ref registry.Reference, _ digest.Digest, img *image.Image) error {
	return f.e.tag(ctx, ref, img.ID)
}

func (f *graphForm) finish(s *sending) error {
	s.archive.Docker(s.img.Image, s.img.Ref.FamiliarTags(), diffIDs(s.img.Image))
	return s.document(s.img.Config)
}

func (f *graphForm) prove(ctx context.Context, s *sending) error {
	img := s.img.Image
	if err := f.e.api.Verify(ctx, img.ID, diffIDs(img)); err != nil {
		return err
	}
	if err := f.e.verifyTags(ctx, s.img.Ref, img.ID); err != nil {
		return err
	}
	if s.img.Ref.Tag() == "" {
		f.e.env.Progress.Note("%s has no tag: the Engine knows the image as %s", s.img.Ref, img.ID)
	}
	return nil
}

// tag makes the image, by its ID in the Engine, what the reference's tag names.
func (e *engine) tag(ctx context.Context, ref registry.Reference, id digest.Digest) error {
	for _, name := range ref.FamiliarTags() {
		has, err := e.api.TagOf(ctx, name)
		if err == nil && has != id {
			err = e.api.Tag(ctx, id, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// verifyTags checks that the reference's tag leads to the image.
func (e *engine) verifyTags(ctx context.Context, ref registry.Reference, id digest.Digest) error {
	for _, name := range ref.FamiliarTags() {
		if err := e.api.VerifyName(ctx, id, name); err != nil {
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
type plainForm struct{ e *engine }

func (f *plainForm) needsAll() bool                  { return true }
func (f *plainForm) sendsBlobs() bool                { return false }
func (f *plainForm) sweep(context.Context, *sending) {}

func (f *plainForm) hasImage(context.Context, digest.Digest, *image.Image) (bool, error) {
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
	return bundle.Manifest(s.img.Leaf.Bytes, s.img.Image, layers)
}

func (f *plainForm) finish(s *sending) error {
	manifest, err := f.manifest(s)
	if err != nil {
		return err
	}
	s.archive.Entry(bundle.Entry{
		Name:       s.img.Ref.FullTag(),
		Descriptor: descriptorOf(ocispec.MediaTypeImageManifest, manifest),
	}.Annotated())
	return s.documents(manifest, s.img.Config)
}

func (f *plainForm) prove(ctx context.Context, s *sending) error {
	manifest, err := f.manifest(s)
	if err != nil {
		return err
	}
	id := digest.FromBytes(manifest)
	if err := f.e.api.TryContainer(ctx, id, &s.img.Platform); err != nil {
		return err
	}
	if err := f.e.verifyTags(ctx, s.img.Ref, id); err != nil {
		return err
	}
	f.e.env.Progress.Note("%s is %s in this Engine, and %s in the registry: docker pull would fetch it again", s.img.Ref, id, s.img.Found)
	return nil
}

// plainLayers returns the descriptors of the layers as plain tars. Those that were left
// out have no size.
func (s *sending) plainLayers() (list []ocispec.Descriptor, err error) {
	for _, l := range s.img.Layers {
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
