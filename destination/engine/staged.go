package engine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
)

// stagedForm is for an Engine with containerd's store. It gives the Engine the registry's
// own manifest and blobs, so that digests, docker save and docker push are what they are
// after a pull, and has it unpack plain layers all the same: the Engine would run unpigz or
// igzip for layers in gzip.
//
// An image is loaded in two steps. The archive of the first has all blobs, twice: as plain
// tars and as the registry has them. Its one image, the stage, is an index without a name,
// which holds
//
//   - a manifest over the plain layers, with the image's own config, for the Engine's
//     platform whatever the config says: the Engine unpacks it;
//   - the registry's manifest, for no platform: the Engine does not unpack it.
//
// Snapshots are named by diffIDs, and kept by the config that they were unpacked for, so
// both manifests share them. The second archive has only the registry's manifest, its
// index, and the name: the Engine finds that it is unpacked. Then the stage is removed, and
// the plain blobs with it. A name leads to an image only after that was seen to be whole.
type stagedForm struct{ e *engine }

// annotationStage marks the manifests of a stage. Its value is the digest of the image's
// own manifest.
const annotationStage = "org.fastpull.stage"

// forgottenStage is the age at which a stage is that of a run that was killed.
const forgottenStage = 24 * time.Hour

func (f *stagedForm) needsAll() bool   { return false }
func (f *stagedForm) sendsBlobs() bool { return true }

// hasImage reports whether the image is there by the digest that names it, with its blobs,
// and unpacked. Docker itself looks for nothing but the platform in an index.
func (f *stagedForm) hasImage(ctx context.Context, found digest.Digest, img *image.Image) (bool, error) {
	return engineStores(ctx, f.e.api, found, img)
}

func engineStores(ctx context.Context, e *daemon.Engine, found digest.Digest, img *image.Image) (bool, error) {
	s, err := e.Stored(ctx, found.String())
	if s == nil {
		return false, err
	}
	return slices.ContainsFunc(s.Variants, func(v daemon.Variant) bool {
		return v.Complete && (v.Unpacked || len(img.Layers) == 0) && image.FormatPlatform(image.Normalize(v.Platform)) == image.FormatPlatform(img.Platform)
	}), nil
}

func (f *stagedForm) name(ctx context.Context, ref registry.Reference, found digest.Digest, img *image.Image) error {
	if ref.Tag() != "" {
		return f.e.tag(ctx, ref, found)
	}
	name := engineName(ref, found)
	s, err := f.e.api.Stored(ctx, cmp.Or(name, found.String()))
	if err != nil || s != nil {
		return err
	}
	if s, err = f.e.api.Stored(ctx, found.String()); err != nil || s == nil {
		return err
	}
	return f.publish(ctx, name, ocispec.Descriptor{MediaType: s.Target.MediaType, Digest: s.Target.Digest, Size: s.Target.Size})
}

// engineName is what containerd's store calls an image: in full, with its tag or else its
// digest. It is "" for an image of a bundle that has no name.
func engineName(ref registry.Reference, found digest.Digest) string {
	switch {
	case ref.Tag() != "":
		return ref.FullTag()
	case ref.Familiar() == source.Unnamed:
		return ""
	}
	return ref.Full() + "@" + found.String()
}

// stage makes the index of the stage, and the manifest over plain layers in it.
func (f *stagedForm) stage(s *sending) (index, plain []byte, err error) {
	layers, err := s.plainLayers()
	if err != nil {
		return nil, nil, err
	}
	mark := map[string]string{annotationStage: s.img.Leaf.Digest.String()}
	original, err := json.Marshal(ocispec.Manifest{Annotations: mark})
	if err == nil {
		plain, err = bundle.Manifest(original, s.img.Image, layers)
	}
	if err != nil {
		return nil, nil, err
	}
	unpacked := descriptorOf(ocispec.MediaTypeImageManifest, plain)
	unpacked.Annotations, unpacked.Platform = mark, new(f.e.api.Platform())
	own := descriptorOf(s.img.Leaf.Type(), s.img.Leaf.Bytes)
	own.Annotations, own.Platform = mark, &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	index, err = bundle.Index([]byte("{}"), []ocispec.Descriptor{unpacked, own})
	return index, plain, err
}

func (f *stagedForm) finish(s *sending) error {
	index, plain, err := f.stage(s)
	if err != nil {
		return err
	}
	s.stage = digest.FromBytes(index)
	s.archive.Entry(descriptorOf(ocispec.MediaTypeImageIndex, index))
	return s.documents(index, plain, s.img.Leaf.Bytes, s.img.Config)
}

// errBlobsDropped is the error of an Engine that was sent all blobs of the registry's manifest
// and has not kept them. It gets a plainForm.
var errBlobsDropped = errors.New("the Engine has not kept the registry's blobs")

// prove looks at the stage, publishes the image, and looks at that.
func (f *stagedForm) prove(ctx context.Context, s *sending) error {
	unpacked, err := f.proveStage(ctx, s)
	if err != nil {
		return err
	}
	name := engineName(s.img.Ref, s.img.Found)
	top := descriptorOf(s.img.Top.Type(), s.img.Top.Bytes)
	documents := [][]byte{s.img.Top.Bytes, s.img.Leaf.Bytes, s.img.Config}
	for _, doc := range s.img.Nested {
		documents = append(documents, doc.Bytes)
	}
	if err := f.publish(ctx, name, top, documents...); err != nil {
		return err
	}
	return f.provePublished(ctx, s, cmp.Or(name, s.img.Found.String()), unpacked)
}

// proveStage makes sure that the plain layers are unpacked, and that all blobs of the
// registry's manifest are there. It reports whether the unpacked layers take any room.
func (f *stagedForm) proveStage(ctx context.Context, s *sending) (unpacked bool, err error) {
	got, err := f.e.api.Stored(ctx, s.stage.String())
	switch {
	case err != nil:
		return false, err
	case got == nil: // removed as a dangling image, by the user or another fastpull
		return false, fmt.Errorf("%w: image %s is gone before it could be named", daemon.ErrLayerMissing, s.stage)
	case !got.Variant(s.img.Leaf.Digest).Complete && s.whole():
		return false, errBlobsDropped
	case !got.Variant(s.img.Leaf.Digest).Complete:
		return false, fmt.Errorf("%w: not all blobs of manifest %s are there", daemon.ErrLayerMissing, s.img.Leaf.Digest)
	case len(s.img.Layers) == 0:
		return false, nil
	}
	if slices.ContainsFunc(got.Variants, func(v daemon.Variant) bool { return v.Unpacked }) {
		return true, nil
	}
	// Layers without content take no room in some file systems.
	return false, f.e.api.TryContainer(ctx, s.stage, nil)
}

// provePublished makes sure that a name leads to what the registry has for it.
func (f *stagedForm) provePublished(ctx context.Context, s *sending, name string, unpacked bool) error {
	got, err := f.e.api.Stored(ctx, name)
	if err != nil {
		return err
	}
	var own daemon.Variant
	if got != nil {
		own = got.Variant(s.img.Leaf.Digest)
	}
	switch {
	case got == nil:
		err = daemon.ErrAbsent
	case got.Target.Digest != s.img.Found:
		err = fmt.Errorf("the Engine has %s by that name", got.Target.Digest)
	case !own.Complete || unpacked && !own.Unpacked:
		err = fmt.Errorf("the Engine does not have all of manifest %s", s.img.Leaf.Digest)
	}
	if err != nil {
		return fmt.Errorf("verify %s: %w", name, err)
	}
	if engineName(s.img.Ref, s.img.Found) == "" {
		f.e.env.Progress.Note("%s has no name: the Engine knows the image as %s", s.img.Ref, s.img.Found)
	}
	return nil
}

// publish has the Engine name what it has, "" for no name. Documents that it may lack go
// along.
func (f *stagedForm) publish(ctx context.Context, name string, target ocispec.Descriptor, documents ...[]byte) error {
	var b bytes.Buffer
	s := &sending{archive: bundle.NewWriter(&b)}
	s.archive.Entry(bundle.Entry{Name: name, Descriptor: target}.Annotated())
	if err := errors.Join(s.documents(documents...), s.archive.Close()); err != nil {
		return err
	}
	return f.e.api.Load(ctx, &b, daemon.Watch{Sent: func(n int64) { f.e.env.Sent.Add(n) }})
}

// sweep removes the stage, and with it the plain blobs, and stages of the same image that
// runs have left that were killed.
func (f *stagedForm) sweep(ctx context.Context, s *sending) {
	if s.stage != "" {
		f.remove(ctx, s.stage)
	}
	for id, left := range f.e.stored {
		if stageOf(left) == s.img.Leaf.Digest && id != s.stage {
			f.remove(ctx, id)
		}
	}
}

// sweepLeft removes stages that runs have left that were killed: those whose image is
// there, and those that are old.
func (f *stagedForm) sweepLeft(ctx context.Context) {
	all := f.e.stored
	whole := make(map[digest.Digest]bool)
	for _, s := range all {
		for _, v := range s.Variants {
			whole[v.Descriptor.Digest] = whole[v.Descriptor.Digest] || v.Usable()
		}
	}
	old := time.Now().Add(-forgottenStage)
	for id, s := range all {
		of := stageOf(s)
		if of == "" || !whole[of] && !s.Touched.Before(old) {
			continue
		}
		f.remove(ctx, id)
		delete(all, id)
	}
}

func (f *stagedForm) remove(ctx context.Context, stage digest.Digest) {
	if err := f.e.api.Remove(ctx, stage); err != nil {
		f.e.env.Progress.Warn("image %s was there for a load alone, and stays in the Engine: %v", stage, err)
	}
}

// stageOf returns the manifest that a stage was made for, "" if s is no stage.
func stageOf(s *daemon.Stored) digest.Digest {
	for _, v := range s.Variants {
		if of := v.Descriptor.Annotations[annotationStage]; of != "" {
			return digest.Digest(of)
		}
	}
	return ""
}
