package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

// BundleOptions say how an archive is made. The zero value is what a pull makes:
// plain layers, one platform, one file.
type BundleOptions struct {
	// Layers is the form that layers have; "" is [bundle.Plain].
	Layers bundle.Form
	// Platforms are those that each image is taken for; without any, it is
	// Options.Platform. Docker finds the first that an image has.
	Platforms []ocispec.Platform
	// All takes every platform.
	All bool
	// Split is how many bytes a part may have; 0 makes one file.
	Split int64
	// Since leaves out the layers which that bundle has. Nil leaves out none.
	Since *bundle.Reader
	// Referrers takes along what refers to the images: signatures, SBOMs. They are valid
	// for the registry's own digests, so that Layers has to be [bundle.Keep].
	Referrers bool
	// List writes a list of what there is beside the archive.
	List bool
}

// archiveTarget writes images to one archive. The file gets its name when it is
// complete. The same images give the same bytes: they are written in the order in
// which they were named, and each one's blobs in an order of their own.
type archiveTarget struct {
	r     *run
	name  string
	file  *bundle.File
	w     *bundle.Writer
	spool *spooler
	pack  *packer
	list  bundle.List

	referred map[bundle.ListReferrer]bool // those that are in it
}

var _ target = (*archiveTarget)(nil)

// ahead is how many images are on their way beside the one that is written, which
// bounds what waits on the disk.
const ahead = 1

func newArchiveTarget(r *run, name string) (*archiveTarget, error) {
	if r.Bundle.Referrers && r.Bundle.Layers != bundle.Keep {
		return nil, fault.WithHint(fault.New(fault.Usage, "--referrers: signatures are about the registry's digests, which layers in another form do not have"),
			"add --layers=keep")
	}
	if strings.HasSuffix(name, bundle.DraftSuffix) {
		return nil, fault.WithHint(fault.New(fault.Usage, "write %s: bundles that are not complete have such names", name), "choose another name with -o")
	}
	f, err := bundle.Create(name, bundle.FileOptions{
		Split: r.Bundle.Split, Sync: !r.NoSync,
		Resume: r.Bundle.Layers == bundle.Keep && !r.NoResume,
	})
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	name = f.Name()
	if err := keepsBase(name, r.Bundle); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	where := newSpace(filepath.Dir(name), "make room there for the archive and the layers of one image beside it, or choose another place with -o")
	t := &archiveTarget{r: r, name: name, file: f, w: bundle.NewWriter(f), spool: newSpooler(r, where), referred: make(map[bundle.ListReferrer]bool)}
	t.pack = newPacker(r, t.spool, t.w, r.Bundle.Layers)
	t.list.Layers = string(t.pack.form)
	if since := r.Bundle.Since; since != nil {
		t.pack.leaveOut(since)
		t.list.Since = since.Index()
		t.w.Since(since.Index())
	}
	return t, nil
}

// keepsBase makes sure that a new bundle does not replace the one that it builds on:
// no bundle would have the layers then.
func keepsBase(name string, o BundleOptions) error {
	if o.Since == nil {
		return nil
	}
	file := name
	for n := 1; n <= bundle.MaxParts; n++ {
		st, err := os.Stat(file)
		if err == nil && o.Since.IsIn(st) {
			return fault.WithHint(fault.New(fault.Usage, "write %s: that is the bundle which the new one builds on, and has to stay", file),
				"choose another name with -o")
		}
		if o.Split == 0 || err != nil && n > 1 {
			break
		}
		file = bundle.PartName(name, n)
	}
	return nil
}

func (t *archiveTarget) platform() ocispec.Platform {
	if p := t.r.Bundle.Platforms; len(p) > 0 {
		return p[0]
	}
	return image.Host()
}

func (t *archiveTarget) lasts() bool { return false }

func (t *archiveTarget) adopt(context.Context, registry.Reference, digest.Digest, *image.Image, ocispec.Platform) (*image.Image, error) {
	return nil, nil // an archive is always written as a whole
}

func (t *archiveTarget) put(ctx context.Context, im *resolved) (fetched int64, err error) {
	if err := t.r.order.wait(ctx, im.nth, ahead); err != nil {
		return 0, err
	}
	b, err := t.r.bundled(ctx, im)
	if err != nil {
		return 0, err
	}
	return t.pack.image(ctx, im, b, func() error {
		_, err := t.documents(b)
		return err
	}, func() error { return t.write(im, b) })
}

// write adds an image whose layers are in the archive.
func (t *archiveTarget) write(im *resolved, b *bundled) error {
	top, err := t.documents(b)
	if err != nil {
		return err
	}
	if err := t.there(b, top.Digest); err != nil {
		return err
	}
	for i, p := range b.images {
		if p.img == nil {
			continue
		}
		if i == b.docker {
			t.w.Docker(p.img, tags(im.ref), t.pack.digests(p.img))
		}
		t.list.Images = append(t.list.Images, t.listed(im, p))
	}
	t.w.Entry(bundle.Entry{Name: fullName(im.ref), Source: sourceName(im), Descriptor: top}.Annotated())
	for _, f := range b.referrers {
		if !t.referred[f.list] {
			t.referred[f.list] = true
			t.w.Entry(f.entry.Annotated())
			t.list.Referrers = append(t.list.Referrers, f.list)
		}
	}
	return nil
}

// documents writes what an image has beside its layers, if it is not there, and
// returns the descriptor of the topmost. What it says of the layers has to be known.
func (t *archiveTarget) documents(b *bundled) (top ocispec.Descriptor, err error) {
	top, err = t.manifests(b)
	for _, f := range b.referrers {
		for _, doc := range f.docs {
			if err == nil {
				err = t.w.Blob(digest.FromBytes(doc), int64(len(doc)), bytes.NewReader(doc))
			}
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", t.name, err)
	}
	return top, err
}

// there makes sure that the configs of an image, and other documents, have come if they
// have places as somebody's layers: that image may have failed.
func (t *archiveTarget) there(b *bundled, top digest.Digest) error {
	docs := []digest.Digest{top}
	for _, p := range b.images {
		if docs = append(docs, p.desc.Digest); p.img != nil {
			docs = append(docs, p.img.ID)
		}
	}
	for _, doc := range t.nested(b) {
		docs = append(docs, doc.Digest)
	}
	for _, f := range b.referrers {
		for _, doc := range f.docs {
			docs = append(docs, digest.FromBytes(doc))
		}
	}
	for _, d := range docs {
		if t.w.Coming(d) {
			return fault.New(fault.Failed, "%s is a layer of an image that failed, and has not come", d)
		}
	}
	return nil
}

// keeps tells if an image's index goes into the archive as the registry has it. Else the
// archive gets an index of its own, which has no other indexes in it.
func (t *archiveTarget) keeps(b *bundled) bool { return t.pack.form == bundle.Keep && b.whole }

// nested returns the indexes that go into the archive with the one that has them.
func (t *archiveTarget) nested(b *bundled) []registry.Manifest {
	if !t.keeps(b) {
		return nil
	}
	return b.nested
}

// manifests writes an image's configs, manifests, and index if it has one. It
// returns the descriptor of the topmost.
func (t *archiveTarget) manifests(b *bundled) (top ocispec.Descriptor, err error) {
	put := func(d ocispec.Descriptor, data []byte) ocispec.Descriptor {
		d.Digest, d.Size = digest.FromBytes(data), int64(len(data))
		if err == nil {
			err = t.w.Blob(d.Digest, d.Size, bytes.NewReader(data))
		}
		return d
	}
	var children []ocispec.Descriptor
	for i := range b.images {
		p := &b.images[i]
		if p.img != nil {
			put(ocispec.Descriptor{}, p.img.Config)
		}
		raw, mediaType := p.raw.Bytes, p.raw.MediaType
		if t.pack.form != bundle.Keep {
			mediaType = ocispec.MediaTypeImageManifest
			if raw, err = bundle.Manifest(raw, p.img, t.pack.descriptors(p.img)); err != nil {
				return top, err
			}
		}
		d := p.desc
		d.MediaType = mediaType
		p.desc = put(d, raw)
		children = append(children, p.desc)
	}
	if b.index == nil {
		return children[0], err
	}
	for _, doc := range t.nested(b) {
		put(ocispec.Descriptor{}, doc.Bytes)
	}
	raw, mediaType := b.index.Bytes, b.index.MediaType
	if !t.keeps(b) {
		mediaType = ocispec.MediaTypeImageIndex
		var e error
		if raw, e = bundle.Index(raw, children); e != nil {
			return top, e
		}
	}
	return put(ocispec.Descriptor{MediaType: mediaType}, raw), err
}

func (t *archiveTarget) listed(im *resolved, p platformImage) bundle.ListImage {
	li := bundle.ListImage{
		Name: fullName(im.ref), Source: sourceName(im), Platform: image.FormatPlatform(p.img.Platform),
		Manifest: p.desc.Digest, ImageID: p.img.ID, Layers: []bundle.ListLayer{},
	}
	for i, d := range t.pack.descriptors(p.img) {
		li.Layers = append(li.Layers, bundle.ListLayer{Digest: d.Digest, Size: d.Size, DiffID: p.img.Layers[i].DiffID, Left: !t.w.Has(d.Digest)})
	}
	return li
}

// fullName is a reference's name and tag, in full; "" if it has no tag.
func fullName(ref registry.Reference) string {
	if ref.Tag() == "" {
		return ""
	}
	return sourceRepository(ref) + ":" + ref.Tag()
}

// sourceName is a reference's name with the digest that was found for it.
func sourceName(im *resolved) string {
	name := sourceRepository(im.ref)
	if im.ref.Tag() != "" {
		name += ":" + im.ref.Tag()
	}
	return name + "@" + im.found.String()
}

func (t *archiveTarget) finish(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.spool.files.wait() // layers of an image that failed may still be written to it
	if err := errors.Join(t.w.Close(), t.file.Finish()); err != nil {
		return fmt.Errorf("write %s: %w", t.name, err)
	}
	var list *bundle.List
	if t.r.Bundle.List {
		list = t.whole()
	}
	if err := t.file.Publish(ctx, list); err != nil {
		return fmt.Errorf("write %s: %w", t.name, err)
	}
	return nil
}

// whole returns the list of an archive that is complete.
func (t *archiveTarget) whole() *bundle.List {
	t.list.Bundle, t.list.Size = filepath.Base(t.name), t.file.Size()
	for _, p := range t.file.Parts() {
		t.list.Parts = append(t.list.Parts, filepath.Base(p))
	}
	t.list.Created, t.list.Index = time.Now().UTC().Truncate(time.Second), t.w.Index()
	return &t.list
}

func (t *archiveTarget) close() error {
	t.spool.close()
	err := t.file.Close()
	if left := t.file.Left(); left != "" {
		t.r.Progress.Note("what has come stays in %s, and the same bundle goes on from there", left)
	}
	return err
}
