package archive

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
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
)

// Options are the options of an archive. The zero value is that of a pull: plain layers, one
// platform, one file.
type Options struct {
	// Layers is the form that layers have; "" is [bundle.Plain].
	Layers bundle.Form
	// Platforms are those that each image is taken for; without any, it is the one that the
	// user named, or this machine's. Docker finds the first that an image has.
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

// archive is an archive that images are written to.
type archive struct {
	run       context.Context // of the whole run: shared work ends with it
	env       *destination.Env
	o         Options
	given     string       // the name as the user wrote it
	name      string       // of the file, where links in the name lead to
	file      *bundle.File // nil in a dry run
	w         *bundle.Writer
	spool     destination.Spool[*packed]
	pack      *packer
	list      bundle.List
	order     order // in which images end
	reserving order // in which images reserve their layers

	referred map[bundle.ListReferrer]bool // those that are in it
}

var (
	_ destination.Destination = (*archive)(nil)
	_ destination.Ordered     = (*archive)(nil)
)

// ahead is how many images are in progress beside the one that is being written. It bounds how
// many layers wait on the disk.
const ahead = 1

// Open prepares to write the archive name. A file of that name is replaced when the archive
// is complete.
func Open(ctx context.Context, env *destination.Env, name string, o Options) (destination.Destination, error) {
	if o.Referrers && o.Layers != bundle.Keep {
		return nil, fault.WithHint(fault.New(fault.Usage, "--referrers: signatures are about the registry's digests, which layers in another form do not have"),
			"add --layers=keep")
	}
	if strings.HasSuffix(name, bundle.DraftSuffix) {
		return nil, fault.WithHint(fault.New(fault.Usage, "write %s: bundles that are not complete have such names", name), "choose another name with -o")
	}
	a := &archive{run: ctx, env: env, o: o, given: name, name: name, referred: make(map[bundle.ListReferrer]bool)}
	if env.DryRun {
		return a, nil
	}
	var err error
	a.file, err = bundle.Create(name, bundle.FileOptions{Split: o.Split, Sync: !env.NoSync, Resume: o.Layers == bundle.Keep && !env.NoResume})
	if err != nil {
		return nil, destination.ExplainWrite(fmt.Errorf("write %s: %w", name, err))
	}
	name = a.file.Name()
	a.name = name
	if err := protectBase(name, o); err != nil {
		return nil, errors.Join(err, a.file.Close())
	}
	a.w = bundle.NewWriter(a.file)
	space := disk.NewSpace(disk.Options{
		Dir: filepath.Dir(name), Advice: "make room there for the archive and the layers of one image beside it, or choose another place with -o",
	})
	a.pack = newPacker(name, space, a.w, o.Layers)
	a.list.Layers = string(a.pack.form)
	if o.Since != nil {
		a.pack.leaveOut(o.Since)
		a.list.Since = o.Since.Index()
		a.w.Since(o.Since.Index())
	}
	return a, nil
}

// protectBase returns an error if the new bundle would replace the bundle that it builds on: the
// layers of that would be lost.
func protectBase(name string, o Options) error {
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

// Info implements [destination.Destination].
func (a *archive) Info() destination.Info {
	p := image.Host()
	if len(a.o.Platforms) > 0 {
		p = a.o.Platforms[0]
	}
	return destination.Info{Name: "archive " + a.given, Platform: p, Together: true}
}

// Check implements [destination.Destination].
func (a *archive) Check(*image.Image) error { return nil }

// Lookup implements [destination.Destination]. An archive is always written as a whole.
func (a *archive) Lookup(_ context.Context, q destination.Query) (destination.State, error) {
	return destination.Nothing(q), nil
}

// Ended implements [destination.Ordered].
func (a *archive) Ended(nth int) {
	a.order.end(nth)
	a.reserving.end(nth)
}

// write adds an image whose layers are in the archive.
func (a *archive) write(im *destination.Image, b *bundled) error {
	top, err := a.documents(b)
	if err != nil {
		return err
	}
	if err := a.there(b, top.Digest); err != nil {
		return err
	}
	for i, p := range b.images {
		if p.img == nil {
			continue
		}
		if i == b.docker {
			a.w.Docker(p.img, im.Ref.FamiliarTags(), a.pack.digests(p.img))
		}
		a.list.Images = append(a.list.Images, a.listed(im, p))
	}
	a.w.Entry(bundle.Entry{Name: im.Ref.FullTag(), Source: sourceName(im), Descriptor: top}.Annotated())
	for _, f := range b.referrers {
		if !a.referred[f.list] {
			a.referred[f.list] = true
			a.w.Entry(f.entry.Annotated())
			a.list.Referrers = append(a.list.Referrers, f.list)
		}
	}
	return nil
}

// documents writes what an image has beside its layers, if it is not there, and
// returns the descriptor of the topmost. What it says of the layers has to be known.
func (a *archive) documents(b *bundled) (top ocispec.Descriptor, err error) {
	top, err = a.manifests(b)
	for _, f := range b.referrers {
		for _, doc := range f.docs {
			if err == nil {
				err = a.w.Blob(digest.FromBytes(doc), int64(len(doc)), bytes.NewReader(doc))
			}
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", a.name, err)
	}
	return top, err
}

// there makes sure that the configs and other documents of an image are in the archive. Some
// have places as layers of another image, which may have failed.
func (a *archive) there(b *bundled, top digest.Digest) error {
	docs := []digest.Digest{top}
	for _, p := range b.images {
		if docs = append(docs, p.desc.Digest); p.img != nil {
			docs = append(docs, p.img.ID)
		}
	}
	for _, doc := range a.nested(b) {
		docs = append(docs, doc.Digest)
	}
	for _, f := range b.referrers {
		for _, doc := range f.docs {
			docs = append(docs, digest.FromBytes(doc))
		}
	}
	for _, d := range docs {
		if a.w.Coming(d) {
			return fault.New(fault.Failed, "%s is a layer of an image that failed, and has not come", d)
		}
	}
	return nil
}

// keepsIndex reports whether an image's index goes into the archive as the registry has it. Else
// the archive gets an index of its own, which has no other indexes in it.
func (a *archive) keepsIndex(b *bundled) bool { return a.pack.form == bundle.Keep && b.whole }

// nested returns the indexes below the image's index that go into the archive with it.
func (a *archive) nested(b *bundled) []*image.Document {
	if !a.keepsIndex(b) {
		return nil
	}
	return b.nested
}

// manifests writes an image's configs, manifests, and index if it has one. It
// returns the descriptor of the topmost.
func (a *archive) manifests(b *bundled) (top ocispec.Descriptor, err error) {
	put := func(d ocispec.Descriptor, data []byte) ocispec.Descriptor {
		d.Digest, d.Size = digest.FromBytes(data), int64(len(data))
		if err == nil {
			err = a.w.Blob(d.Digest, d.Size, bytes.NewReader(data))
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
		if a.pack.form != bundle.Keep {
			mediaType = ocispec.MediaTypeImageManifest
			if raw, err = bundle.Manifest(raw, p.img, a.pack.descriptors(p.img)); err != nil {
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
	for _, doc := range a.nested(b) {
		put(ocispec.Descriptor{}, doc.Bytes)
	}
	raw, mediaType := b.index.Bytes, b.index.MediaType
	if !a.keepsIndex(b) {
		mediaType = ocispec.MediaTypeImageIndex
		var e error
		if raw, e = bundle.Index(raw, children); e != nil {
			return top, e
		}
	}
	return put(ocispec.Descriptor{MediaType: mediaType}, raw), err
}

func (a *archive) listed(im *destination.Image, p platformImage) bundle.ListImage {
	li := bundle.ListImage{
		Name: im.Ref.FullTag(), Source: sourceName(im), Platform: image.FormatPlatform(p.img.Platform),
		Manifest: p.desc.Digest, ImageID: p.img.ID, Layers: []bundle.ListLayer{},
	}
	for i, d := range a.pack.descriptors(p.img) {
		li.Layers = append(li.Layers, bundle.ListLayer{Digest: d.Digest, Size: d.Size, DiffID: p.img.Layers[i].DiffID, Left: !a.w.Has(d.Digest)})
	}
	return li
}

// sourceName is a reference's name with the digest that was found for it.
func sourceName(im *destination.Image) string {
	name := im.Ref.Full()
	if im.Ref.Tag() != "" {
		name += ":" + im.Ref.Tag()
	}
	return name + "@" + im.Found.String()
}

// Finish implements [destination.Destination].
func (a *archive) Finish(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	a.spool.Wait() // layers of an image that failed may still be written to it
	if err := errors.Join(a.w.Close(), a.file.Finish()); err != nil {
		return fmt.Errorf("write %s: %w", a.name, err)
	}
	var list *bundle.List
	if a.o.List {
		list = a.whole()
	}
	if err := a.file.Publish(ctx, list); err != nil {
		return fmt.Errorf("write %s: %w", a.name, err)
	}
	return nil
}

// whole returns the list of an archive that is complete.
func (a *archive) whole() *bundle.List {
	a.list.Bundle, a.list.Size = filepath.Base(a.name), a.file.Size()
	for _, p := range a.file.Parts() {
		a.list.Parts = append(a.list.Parts, filepath.Base(p))
	}
	a.list.Created, a.list.Index = time.Now().UTC().Truncate(time.Second), a.w.Index()
	return &a.list
}

// Close implements [destination.Destination].
func (a *archive) Close() error {
	if a.file == nil {
		return nil
	}
	a.spool.Close()
	err := a.file.Close()
	a.env.Draft.File, a.env.Draft.Bytes = a.file.Left()
	return err
}
