package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/codec"
	"github.com/fastpull/fastpull/internal/jsonlimit"
)

// ErrNotHere is wrapped by errors for blobs that a bundle lacks.
var ErrNotHere = errors.New("it is not in the bundle")

// What a foreign archive may make us keep in memory.
const (
	maxMembers  = 1 << 18
	maxName     = 4 << 10  // of a file
	maxNames    = 32 << 20 // of all files together
	maxDocument = 8 << 20  // index.json, a manifest, a config
	maxNamed    = 1 << 16  // descriptors in all
)

// Reader reads a bundle. It is safe for concurrent use.
type Reader struct {
	name    string
	src     *io.SectionReader
	files   *joint // that were opened
	close   func() error
	changed func() error
	members map[string]member
	links   map[string]string
	end     int64 // of the last member, its padding included
	entries []Entry
	index   digest.Digest // of index.json
	since   digest.Digest
	named   map[digest.Digest]int64  // sizes by descriptors
	layers  map[digest.Digest]Layer  // by blob
	chains  map[digest.Digest]bool   // chainIDs of images
	types   map[digest.Digest]string // media types of manifests and indexes
	made    map[digest.Digest][]byte // manifests that a docker-archive does not have

	referrers []Entry
	needed    map[digest.Digest]digest.Digest // blobs of referrers, and whose
}

// member is a file in the archive.
type member struct{ header, off, size int64 }

// Close closes the files. Readers that [Reader.Blob] has returned fail from then on.
func (r *Reader) Close() error { return r.close() }

// Changed returns an error of kind [fault.Corrupt] if a file has been written to since
// the Reader opened it: what was verified says nothing then.
func (r *Reader) Changed() error { return r.changed() }

// Name is what was opened.
func (r *Reader) Name() string { return r.name }

// IsIn tells if the bundle is in that file, or a part of it is.
func (r *Reader) IsIn(file fs.FileInfo) bool {
	return slices.ContainsFunc(r.files.files, func(f *os.File) bool {
		st, err := f.Stat()
		return err == nil && os.SameFile(st, file)
	})
}

// Entries are the images, in the bundle's order.
func (r *Reader) Entries() []Entry { return r.entries }

// Index is the digest of index.json, "" if there is none.
func (r *Reader) Index() digest.Digest { return r.index }

// Since is the digest of the index.json of the bundle that has the layers which this
// one lacks; "" if it lacks none.
func (r *Reader) Since() digest.Digest { return r.since }

// Layer is a layer of an image of a bundle.
type Layer struct {
	Blob   ocispec.Descriptor
	DiffID digest.Digest
}

// Layers are those of the bundle's images, each once. If it builds on another bundle
// it has not all of them itself.
func (r *Reader) Layers() []Layer { return slices.Collect(maps.Values(r.layers)) }

// LayerType returns the media type of a layer in the format that its bytes have. Of a
// layer that is in another bundle the manifest says it. It is "" if the bytes cannot be
// read.
func (r *Reader) LayerType(l Layer) string {
	b, err := r.Blob(l.Blob.Digest)
	if err != nil {
		return l.Blob.MediaType
	}
	format, err := codec.Of(b)
	if err != nil {
		return ""
	}
	return format.MediaType()
}

// HasChain tells if who has loaded the bundle, and those that it builds on, has the
// layer of this chainID.
func (r *Reader) HasChain(id digest.Digest) bool { return r.chains[id] }

// Size is how many bytes the archive has, decompressed.
func (r *Reader) Size() int64 { return r.src.Size() }

// Blob returns a blob, which is not verified. Each call returns a reader of its own,
// with a position of its own, and all of them may be used at the same time. The error
// is [ErrNotHere] if there is no such blob.
func (r *Reader) Blob(d digest.Digest) (*io.SectionReader, error) {
	if data, ok := r.made[d]; ok {
		return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), nil
	}
	m, ok := r.members[blobName(d)]
	if !ok {
		return nil, fault.Wrap(fault.NotFound, fmt.Errorf("%s: %w", d, ErrNotHere))
	}
	return io.NewSectionReader(r.src, m.off, m.size), nil
}

// ReadBlob returns a blob of no more than limit bytes, verified.
func (r *Reader) ReadBlob(d ocispec.Descriptor, limit int64) ([]byte, error) {
	b, err := r.Blob(d.Digest)
	if err != nil {
		return nil, err
	}
	if b.Size() > limit {
		return nil, fault.New(fault.Corrupt, "%s has %d bytes, more than the limit of %d", d.Digest, b.Size(), limit)
	}
	data, err := io.ReadAll(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	if int64(len(data)) != d.Size {
		return nil, otherSize(d, int64(len(data)))
	}
	if d.Digest.Algorithm().FromBytes(data) != d.Digest {
		return nil, fault.New(fault.Corrupt, "blob %s is damaged", d.Digest)
	}
	return data, nil
}

// MediaType returns the media type of a manifest or an index that an image of the
// bundle leads to, whose bytes are those of its [Reader.Blob]. The error is
// [ErrNotHere] if d is none.
func (r *Reader) MediaType(d digest.Digest) (string, error) {
	mediaType, ok := r.types[d]
	if !ok {
		return "", fault.Wrap(fault.NotFound, fmt.Errorf("%s: %w", d, ErrNotHere))
	}
	return mediaType, nil
}

// Manifest returns a manifest or an index that an image of the bundle leads to,
// verified, and its media type. The error is [ErrNotHere] if it is none.
func (r *Reader) Manifest(d digest.Digest) (raw []byte, mediaType string, err error) {
	mediaType, err = r.MediaType(d)
	if err != nil {
		return nil, "", err
	}
	raw, err = r.ReadBlob(ocispec.Descriptor{Digest: d, Size: r.named[d]}, maxDocument)
	return raw, mediaType, err
}

// read finds the members, and what they say of each other.
func (r *Reader) read(ctx context.Context) error {
	if err := r.scan(ctx); err != nil {
		return err
	}
	r.types, r.chains = make(map[digest.Digest]string), make(map[digest.Digest]bool)
	r.named, r.layers, r.made = make(map[digest.Digest]int64), make(map[digest.Digest]Layer), make(map[digest.Digest][]byte)
	r.needed = make(map[digest.Digest]digest.Digest)
	if _, ok := r.find(indexName); ok {
		if err := r.readIndex(); err != nil {
			return err
		}
		if err := r.adoptReferrers(); err != nil {
			return err
		}
	} else if err := r.readDocker(ctx); err != nil {
		return err
	}
	for _, e := range r.entries {
		if err := walk(e.Descriptor, r.visit); err != nil {
			return incomplete(err)
		}
	}
	for _, e := range r.referrers {
		if err := walk(e.Descriptor, r.visitReferrer); err != nil {
			return incomplete(err)
		}
	}
	return nil
}

// incomplete returns the error of an archive that names what it does not have: that is
// damage, and not something else to look for.
func incomplete(err error) error {
	if errors.Is(err, ErrNotHere) {
		return fault.Wrap(fault.Corrupt, err)
	}
	return err
}

// scan goes from header to header.
func (r *Reader) scan(ctx context.Context) error {
	r.members, r.links = make(map[string]member), make(map[string]string)
	tr := tar.NewReader(r.src)
	for n, names := 0, 0; ; n++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := tr.Next()
		pos, perr := r.src.Seek(0, io.SeekCurrent)
		if perr != nil {
			return perr
		}
		if err == io.EOF && n > 0 {
			if pos < r.end+2*blockSize {
				return fault.New(fault.Corrupt, "it is truncated: it ends after %d bytes without the mark of an end", pos)
			}
			return nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fault.New(fault.Corrupt, "it is truncated, at %d bytes", r.src.Size())
		}
		if err != nil {
			return fault.New(fault.Corrupt, "it is no tar, or damaged at byte %d: %w", r.end, err)
		}
		if n == maxMembers {
			return fault.New(fault.Corrupt, "it has more than %d files", maxMembers)
		}
		if names += len(h.Name) + len(h.Linkname); len(h.Name) > maxName || len(h.Linkname) > maxName || names > maxNames {
			return fault.New(fault.Corrupt, "the names of its files are too long: file %d has one of %d bytes", n+1, len(h.Name))
		}
		// The name is a part of a PAX header, which may have a megabyte.
		name := strings.TrimPrefix(strings.TrimSuffix(strings.Clone(h.Name), "/"), "./")
		if name == "" || name == "." {
			name = "."
		} else if path.Clean("/"+name) != "/"+name || strings.HasPrefix(name, "/") || strings.ContainsRune(name, '\\') {
			return fault.New(fault.Corrupt, "a file in it is called %q", h.Name)
		}
		switch h.Typeflag {
		case tar.TypeDir:
		case tar.TypeReg:
			if _, twice := r.members[name]; twice {
				return fault.New(fault.Corrupt, "%q is in it twice", name)
			}
			r.members[name] = member{r.end, pos, h.Size}
		case tar.TypeSymlink, tar.TypeLink:
			to := strings.Clone(h.Linkname)
			if h.Typeflag == tar.TypeSymlink {
				to = path.Join(path.Dir(name), to)
			}
			r.links[name] = to // what is not in the archive is found to be missing
		default:
			return fault.New(fault.Corrupt, "%q in it is neither file nor directory", name)
		}
		r.end = pos
		if h.Typeflag == tar.TypeReg {
			r.end += h.Size + padding(h.Size)
			if r.end > r.src.Size() || r.end < 0 {
				return fault.New(fault.Corrupt, "it is truncated: %q has %d bytes from byte %d on, and the archive has %d", name, h.Size, pos, r.src.Size())
			}
		}
	}
}

// find returns a member by its name, or by links to it.
func (r *Reader) find(name string) (member, bool) {
	for range 8 {
		if m, ok := r.members[name]; ok {
			return m, true
		}
		to, ok := r.links[name]
		if !ok {
			break
		}
		name = to
	}
	return member{}, false
}

// document returns a file that is read as a whole.
func (r *Reader) document(name string) ([]byte, error) {
	m, ok := r.find(name)
	if !ok {
		return nil, fault.New(fault.Corrupt, "%s is missing in it", name)
	}
	if m.size > maxDocument {
		return nil, fault.New(fault.Corrupt, "%s has %d bytes, more than the limit of %d", name, m.size, maxDocument)
	}
	data := make([]byte, m.size)
	_, err := io.ReadFull(io.NewSectionReader(r.src, m.off, m.size), data)
	return data, err
}

// readIndex reads what index.json names.
func (r *Reader) readIndex() error {
	data, err := r.document(indexName)
	if err != nil {
		return err
	}
	index, err := image.ParseManifest(ocispec.MediaTypeImageIndex, data)
	if err != nil {
		return fmt.Errorf("%s: %w", indexName, err)
	}
	var top ocispec.Index
	if err := jsonlimit.Unmarshal(data, &top); err != nil {
		return fault.New(fault.Corrupt, "%s: %w", indexName, err)
	}
	r.index, r.since = digest.FromBytes(data), digest.Digest(top.Annotations[annotationSince])
	if r.since != "" && r.since.Validate() != nil {
		return fault.New(fault.Corrupt, "%s: it builds on %q, which is no digest", indexName, r.since)
	}
	sizes := make(map[digest.Digest]int64)
	for _, d := range index.Manifests {
		if size, known := sizes[d.Digest]; known && size != d.Size {
			return fmt.Errorf("%s: %w", indexName, twoSizes(d.Digest, size, d.Size))
		}
		sizes[d.Digest] = d.Size
		e := Entry{
			Name: d.Annotations[annotationContainerd], Source: d.Annotations[annotationSource], Descriptor: d,
			Tag: d.Annotations[annotationTag], Subject: digest.Digest(d.Annotations[annotationReferrer]),
		}
		if e.Subject != "" {
			if err := checkReferrer(e); err != nil {
				return err
			}
			e.Name = ""
			r.referrers = append(r.referrers, e)
			continue
		}
		if name := d.Annotations[annotationName]; e.Name == "" && strings.Contains(name, ":") {
			e.Name = name
		}
		r.entries = append(r.entries, e)
	}
	return nil
}

// walk calls visit for a descriptor and all that it leads to. visit returns what an
// index has; below is set for what is in one.
func walk(top ocispec.Descriptor, visit func(d ocispec.Descriptor, below bool) ([]ocispec.Descriptor, error)) error {
	list, err := visit(top, false)
	if err != nil {
		return err
	}
	return image.Walk(list, func(e image.Entry) ([]ocispec.Descriptor, error) { return visit(e.Flat(), true) })
}

// newDocument returns the bytes of a manifest or an index, verified. They are nil if it
// was seen before, or if it is in an index and not in the bundle.
func (r *Reader) newDocument(d ocispec.Descriptor, below bool) ([]byte, error) {
	if len(r.named) > maxNamed {
		return nil, fault.New(fault.Corrupt, "its images name more than %d blobs and manifests", maxNamed)
	}
	known, err := r.note(d)
	if err != nil || known {
		return nil, err
	}
	data, err := r.ReadBlob(d, maxDocument)
	if errors.Is(err, ErrNotHere) && below {
		return nil, nil
	}
	return data, err
}

// visit looks at a manifest or an index: it is verified, and of what it names it is
// noted what that must be.
func (r *Reader) visit(d ocispec.Descriptor, below bool) ([]ocispec.Descriptor, error) {
	data, err := r.newDocument(d, below)
	if data == nil {
		return nil, err
	}
	r.types[d.Digest] = d.MediaType
	if m, err := image.ParseManifest(d.MediaType, data); err == nil && m.IsIndex() {
		return m.Manifests, nil
	} else if err == nil {
		return nil, r.walkImage(m)
	} else if fault.KindOf(err) == fault.Corrupt {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	blobs, err := image.Blobs(data) // of an artifact
	for _, b := range blobs {
		if err == nil {
			_, err = r.note(b)
		}
	}
	return nil, err
}

func (r *Reader) walkImage(m *image.Manifest) error {
	for _, b := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if _, err := r.note(b); err != nil {
			return err
		}
	}
	config, err := r.ReadBlob(m.Config, maxDocument)
	if err != nil {
		return err
	}
	img, err := image.New(m, config)
	if err != nil {
		return err
	}
	for _, l := range img.Layers {
		if old, ok := r.layers[l.Blob.Digest]; ok && old.DiffID != l.DiffID {
			return fault.New(fault.Corrupt, "layer %s has the diffID %s in one image and %s in another", l.Blob.Digest, old.DiffID, l.DiffID)
		}
		r.chains[l.ChainID] = true
		r.layers[l.Blob.Digest] = Layer{l.Blob, l.DiffID}
	}
	return nil
}

// note notes the size that a descriptor gives a blob, which must be the one that
// it has, here and wherever it is named. It tells if it was known.
func (r *Reader) note(d ocispec.Descriptor) (known bool, err error) {
	size, known := r.named[d.Digest]
	if known && size != d.Size {
		return true, twoSizes(d.Digest, size, d.Size)
	}
	r.named[d.Digest] = d.Size
	if m, ok := r.members[blobName(d.Digest)]; ok && m.size != d.Size {
		return known, otherSize(d, m.size)
	}
	return known, nil
}

func otherSize(d ocispec.Descriptor, has int64) error {
	return fault.New(fault.Corrupt, "blob %s has %d bytes, and its descriptor says %d", d.Digest, has, d.Size)
}

func twoSizes(d digest.Digest, one, other int64) error {
	return fault.New(fault.Corrupt, "blob %s is named with %d bytes and with %d", d, one, other)
}

// readDocker makes manifests for the images of manifest.json.
func (r *Reader) readDocker(ctx context.Context) error {
	if _, ok := r.find(manifestName); !ok {
		return fault.New(fault.Corrupt, "it has neither %s nor %s: it is no archive of images", indexName, manifestName)
	}
	data, err := r.document(manifestName)
	if err != nil {
		return err
	}
	var images []dockerImage
	if err := jsonlimit.Unmarshal(data, &images); err != nil {
		return fault.New(fault.Corrupt, "%s: %w", manifestName, err)
	}
	layers := make(map[member]ocispec.Descriptor)
	for _, item := range images {
		d, err := r.synthesize(ctx, item, layers)
		if err != nil {
			return err
		}
		for _, tag := range item.RepoTags {
			r.entries = append(r.entries, Entry{Name: tag, Descriptor: d})
		}
		if len(item.RepoTags) == 0 {
			r.entries = append(r.entries, Entry{Descriptor: d})
		}
	}
	return nil
}

// synthesize makes the manifest of an image of a docker-archive. Layers has those that
// were read before: images have layers in common.
func (r *Reader) synthesize(ctx context.Context, item dockerImage, layers map[member]ocispec.Descriptor) (ocispec.Descriptor, error) {
	config, err := r.document(path.Clean(item.Config))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	m.Config = r.adopt(ocispec.MediaTypeImageConfig, path.Clean(item.Config), digest.FromBytes(config))
	for _, name := range item.Layers {
		name = path.Clean(name)
		at, ok := r.find(name)
		if !ok {
			return ocispec.Descriptor{}, fault.New(fault.Corrupt, "layer %q is missing in it", name)
		}
		l, ok := layers[at]
		if !ok {
			content := io.NewSectionReader(r.src, at.off, at.size)
			format, err := codec.Of(content)
			if err != nil {
				return ocispec.Descriptor{}, err
			}
			d, err := digest.FromReader(until{ctx, content})
			if err != nil {
				return ocispec.Descriptor{}, err
			}
			l = r.adopt(format.MediaType(), name, d)
			layers[at] = l
		}
		m.Layers = append(m.Layers, l)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	r.made[d.Digest] = raw
	return d, nil
}

// adopt lets a file be found by its digest.
func (r *Reader) adopt(mediaType, name string, d digest.Digest) ocispec.Descriptor {
	m, _ := r.find(name)
	if _, ok := r.members[blobName(d)]; !ok {
		r.members[blobName(d)] = m
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: m.size}
}
