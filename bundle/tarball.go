package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// ErrNotHere is wrapped by errors for blobs that a bundle lacks.
var ErrNotHere = errors.New("it is not in the bundle")

// The most that a foreign archive may have us keep in memory.
const (
	maxMembers  = 1 << 18
	maxName     = 4 << 10  // of a file
	maxNames    = 32 << 20 // of all files together
	maxDocument = 8 << 20  // index.json, a manifest, a config
)

// tarball is a tar and where its files are. [scan] reads the headers only; a file is read
// when it is asked for.
type tarball struct {
	src     *io.SectionReader
	members map[string]member
	links   map[string]string        // targets, by name
	made    map[digest.Digest][]byte // manifests made for a docker-archive, which has none
	end     int64                    // of the last member, its padding included
}

// member is the place of a file: of its header, and of its content.
type member struct{ header, off, size int64 }

// scan reads the headers of a tar.
func scan(ctx context.Context, src *io.SectionReader) (*tarball, error) {
	a := &tarball{src: src, members: make(map[string]member), links: make(map[string]string), made: make(map[digest.Digest][]byte)}
	tr := tar.NewReader(src)
	for n, names := 0, 0; ; n++ {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		h, err := tr.Next()
		pos, perr := src.Seek(0, io.SeekCurrent)
		if perr != nil {
			return nil, perr
		}
		if err == io.EOF && n > 0 {
			if pos < a.end+2*blockSize {
				return nil, fault.New(fault.Corrupt, "it is truncated: it ends after %d bytes without the mark of an end", pos)
			}
			return a, nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fault.New(fault.Corrupt, "it is truncated, at %d bytes", src.Size())
		}
		if err != nil {
			return nil, fault.New(fault.Corrupt, "it is no tar, or damaged at byte %d: %w", a.end, err)
		}
		if n == maxMembers {
			return nil, fault.New(fault.Corrupt, "it has more than %d files", maxMembers)
		}
		if names += len(h.Name) + len(h.Linkname); len(h.Name) > maxName || len(h.Linkname) > maxName || names > maxNames {
			return nil, fault.New(fault.Corrupt, "the names of its files are too long: file %d has one of %d bytes", n+1, len(h.Name))
		}
		if err := a.add(h, pos); err != nil {
			return nil, err
		}
	}
}

// add adds the file of a header. Its content begins at pos.
func (a *tarball) add(h *tar.Header, pos int64) error {
	name, err := memberName(h.Name)
	if err != nil {
		return err
	}
	header := a.end
	a.end = pos
	switch h.Typeflag {
	case tar.TypeDir:
	case tar.TypeReg:
		if _, twice := a.members[name]; twice {
			return fault.New(fault.Corrupt, "%q is in it twice", name)
		}
		a.members[name] = member{header, pos, h.Size}
		a.end += h.Size + padding(h.Size)
		if a.end > a.src.Size() || a.end < 0 {
			return fault.New(fault.Corrupt, "it is truncated: %q has %d bytes from byte %d on, and the archive has %d", name, h.Size, pos, a.src.Size())
		}
	case tar.TypeSymlink, tar.TypeLink:
		to := strings.Clone(h.Linkname)
		if h.Typeflag == tar.TypeSymlink {
			to = path.Join(path.Dir(name), to)
		}
		a.links[name] = to // a target that the archive lacks is reported when it is read
	default:
		return fault.New(fault.Corrupt, "%q in it is neither file nor directory", name)
	}
	return nil
}

// find returns a member by its name, or by links to it.
func (a *tarball) find(name string) (member, bool) {
	for range 8 {
		if m, ok := a.members[name]; ok {
			return m, true
		}
		to, ok := a.links[name]
		if !ok {
			break
		}
		name = to
	}
	return member{}, false
}

// document returns the content of a small file.
func (a *tarball) document(name string) ([]byte, error) {
	m, ok := a.find(name)
	if !ok {
		return nil, fault.New(fault.Corrupt, "%s is missing in it", name)
	}
	if m.size > maxDocument {
		return nil, fault.New(fault.Corrupt, "%s has %d bytes, more than the limit of %d", name, m.size, maxDocument)
	}
	data := make([]byte, m.size)
	_, err := io.ReadFull(a.open(m), data)
	return data, err
}

// open returns the content of a member.
func (a *tarball) open(m member) *io.SectionReader {
	return io.NewSectionReader(a.src, m.off, m.size)
}

// has reports whether a blob is in the archive, or was made for it.
func (a *tarball) has(d digest.Digest) bool {
	_, ok := a.members[blobName(d)]
	return ok || a.made[d] != nil
}

// blob returns a blob. The error is [ErrNotHere] if there is no such blob.
func (a *tarball) blob(d digest.Digest) (*io.SectionReader, error) {
	if data, ok := a.made[d]; ok {
		return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), nil
	}
	m, ok := a.members[blobName(d)]
	if !ok {
		return nil, fault.Wrap(fault.NotFound, fmt.Errorf("%s: %w", d, ErrNotHere))
	}
	return a.open(m), nil
}

// readBlob returns the content of a blob of no more than limit bytes, verified.
func (a *tarball) readBlob(d ocispec.Descriptor, limit int64) ([]byte, error) {
	b, err := a.blob(d.Digest)
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

// adopt makes the file of a docker-archive a blob, and returns its descriptor.
func (a *tarball) adopt(mediaType, name string, d digest.Digest) ocispec.Descriptor {
	m, _ := a.find(name)
	if _, ok := a.members[blobName(d)]; !ok {
		a.members[blobName(d)] = m
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: m.size}
}

func otherSize(d ocispec.Descriptor, has int64) error {
	return fault.New(fault.Corrupt, "blob %s has %d bytes, and its descriptor says %d", d.Digest, has, d.Size)
}
