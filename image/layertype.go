package image

import (
	"mime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// Beginnings of the types of layers: the image-spec's, Docker's, and one that early
// versions of Docker's schema 2 had.
var layerTypes = []string{
	"application/vnd.oci.image.layer.",
	"application/vnd.docker.image.rootfs.",
	"application/vnd.docker.container.image.rootfs.",
}

// plainTypes are media types that do not describe the content, or say only that it is an
// archive. They are used by registries and programs without types for layers. A blob of such a
// type is a layer if the type of the config is that of an image.
var plainTypes = []string{
	"", "application/octet-stream", "binary/octet-stream",
	"application/tar", "application/x-tar", "application/x-gtar", "application/x-ustar",
	"application/tar+gzip", "application/x-tar+gzip", "application/x-gtar-compressed", "application/x-compressed-tar", "application/x-tgz",
	"application/gzip", "application/x-gzip", "application/zstd", "application/x-zstd",
	"application/x-xz", "application/x-bzip2",
}

// checkLayer returns an error if the media type of a blob is not one of layers. Whether the blob
// really is a layer, and how it is compressed, is decided by its bytes later. isImage reports
// whether the config has the type of an image's config.
func checkLayer(d ocispec.Descriptor, isImage bool) error {
	if err := checkDescriptor(d); err != nil {
		return err
	}
	t := d.MediaType
	if base, _, err := mime.ParseMediaType(t); err == nil {
		t = base // in lower case, without parameters
	}
	if strings.HasSuffix(t, "+encrypted") {
		return fault.New(fault.Failed, "%s is encrypted, which fastpull does not support", d.Digest)
	}
	if slices.ContainsFunc(layerTypes, func(p string) bool { return strings.HasPrefix(t, p) }) || isImage && (slices.Contains(plainTypes, t) || isTarType(t)) {
		return nil
	}
	return fault.New(fault.Failed, "%s is of the type %s, which is no layer of files", d.Digest, known(d.MediaType))
}

// isTarType recognizes a vendor's media type that ends as those of layers do:
// application/vnd.acme.layer.v1.tar+gzip.
func isTarType(t string) bool {
	t, _, _ = strings.Cut(t, "+")
	return strings.HasPrefix(t, "application/vnd.") && slices.ContainsFunc([]string{".tar", ".tar.gzip", ".tar.gz", ".tar.zstd"}, func(end string) bool {
		return strings.HasSuffix(t, end)
	})
}

// containerdTypes are the types of Docker's that containerd takes for those of layers.
var containerdTypes = []string{
	"application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar.zstd",
	"application/vnd.docker.image.rootfs.foreign.diff.tar", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
}

// CheckContainerd returns an error if containerd would not find all layers of an image.
// containerd finds them by their media types, and ignores a blob with a type that it does not
// know.
func CheckContainerd(img *Image) error {
	for _, l := range img.Layers {
		base, _, _ := strings.Cut(l.Blob.MediaType, "+")
		if !strings.HasPrefix(base, layerTypes[0]) && !slices.Contains(containerdTypes, base) {
			return fault.WithHint(fault.New(fault.Failed, "%s is of the type %s, which containerd does not take for a layer's", l.Blob.Digest, known(l.Blob.MediaType)),
				"carry the image there by a bundle, which has types of its own: fastpull bundle -o FILE IMAGE, and fastpull load FILE --containerd")
		}
	}
	return nil
}
