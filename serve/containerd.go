package serve

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/containerdapi"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

// inContainerd is the content of a containerd's namespace. Containerd is asked what there is for each
// request, and the bytes are read from its files. So nothing in containerd changes, and a blob
// that is removed while it is sent is sent to its end. By the API each answer that a client
// leaves waiting would take some MiB of containerd's memory.
type inContainerd struct {
	c       *containerdapi.Client
	blobs   string        // the directory
	reading chan struct{} // has an element for each document that is read
}

// NewContainerd returns a handler for the images that are in the namespace of c at the time of
// each request. c has to stay open as long as the handler is used. The error is of kind
// [fault.Denied] if this process cannot read the files of containerd's content store.
func NewContainerd(ctx context.Context, c *containerdapi.Client) (*Handler, error) {
	plugins, err := c.Plugins(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask containerd for its content store: %w", err)
	}
	if _, err := os.ReadDir(plugins.Content.Root); err != nil { // it has no blobs at first
		return nil, fault.WithHint(fault.New(fault.Denied, "read the content store of containerd at %s: %w", c.Address(), err),
			"run fastpull as root, and in a container mount %s at the same path", plugins.Content.Root)
	}
	l := inContainerd{c, filepath.Join(plugins.Content.Root, "blobs"), make(chan struct{}, mostReading)}
	return &Handler{from: l, live: l.repositories, files: 1}, nil
}

// repositories returns the images of a registry's host, as ns of a mirror's client names it,
// or of all. Of images that would be called the same, without a host, none has the tag.
func (l inContainerd) repositories(ctx context.Context, host string) (repositories, error) {
	images, err := l.c.Images(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the images of containerd: %w", err)
	}
	repos, unlike := make(repositories), make(map[registry.Reference]bool)
	for name, target := range images {
		ref, err := registry.ParseReference(name)
		if err != nil {
			continue
		}
		// The kubelet and Docker have names that are no references, such as sha256:…
		rest, whole := strings.CutPrefix(name, ref.Full())
		at, _, _ := strings.Cut(ref.Full(), "/")
		if !whole || rest == "" || host != "" && host != at {
			continue
		}
		if ref.Digest() != "" {
			ref = ref.WithDigest(ref.Digest()) // a tag beside it may lead elsewhere by now
		}
		if !repos.add(ref, target) {
			unlike[ref] = true
		}
	}
	for ref := range unlike {
		delete(repos[ref.Repository()].tags, ref.Tag())
	}
	return repos, nil
}

// maxDocument is the size of a manifest, beyond which registries take none.
const maxDocument = 4 << 20

// mostReading is how many documents are read and hashed at a time. Clients may ask for layers as
// manifests.
const mostReading = 4

// Manifest implements content.
func (l inContainerd) Manifest(ctx context.Context, d digest.Digest) (b blob, mediaType string, err error) {
	if d.Validate() != nil {
		return b, "", bundle.ErrNotHere
	}
	if b, err = l.Blob(ctx, d); err != nil {
		return b, "", err
	}
	if b.size > maxDocument {
		return b, "", bundle.ErrNotHere // it is a layer
	}
	return l.document(ctx, d, b)
}

// document returns a manifest that is in b, with its bytes in memory. It waits for its turn.
func (l inContainerd) document(ctx context.Context, d digest.Digest, b blob) (_ blob, mediaType string, err error) {
	select {
	case l.reading <- struct{}{}:
		defer func() { <-l.reading }()
	case <-ctx.Done():
		return b, "", context.Cause(ctx)
	}
	r, err := b.open(0)
	if err != nil {
		return b, "", err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, b.size))
	if err != nil {
		return b, "", err
	}
	if d.Algorithm().FromBytes(raw) != d {
		return b, "", fault.New(fault.Corrupt, "%s is damaged in containerd", d)
	}
	m, err := image.ParseManifest("", raw)
	if err != nil {
		return b, "", bundle.ErrNotHere // a config, a layer, or what no image leads to
	}
	mediaType = ocispec.MediaTypeImageManifest
	if m.IsIndex() {
		mediaType = ocispec.MediaTypeImageIndex
	}
	return inMemory(raw), cmp.Or(m.MediaType, mediaType), nil
}

// Blob implements content. The namespace has to have the blob: the files are those of all
// namespaces.
func (l inContainerd) Blob(ctx context.Context, d digest.Digest) (blob, error) {
	info, err := l.c.StatBlob(ctx, d)
	if errdefs.IsNotFound(err) {
		return blob{}, bundle.ErrNotHere
	}
	if err != nil {
		return blob{}, fmt.Errorf("ask containerd for %s: %w", d, err)
	}
	return blob{info.Size, func(off int64) (io.ReadCloser, error) { return l.open(d, info.Size, off) }}, nil
}

// open opens a blob of a size, at an offset.
func (l inContainerd) open(d digest.Digest, size, off int64) (_ io.ReadCloser, err error) {
	f, err := os.Open(filepath.Join(l.blobs, d.Algorithm().String(), d.Encoded()))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() != size) {
		err = fault.New(fault.Corrupt, "%s is damaged: containerd has noted %d bytes for it", f.Name(), size)
	}
	if err == nil {
		_, err = f.Seek(off, io.SeekStart)
	}
	return f, err
}
