package bundle

import (
	"archive/tar"
	"bytes"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// The files of a bundle beside its blobs. They are its last, in this order.
const (
	layoutName       = ocispec.ImageLayoutFile // oci-layout
	indexName        = ocispec.ImageIndexFile  // index.json
	manifestName     = "manifest.json"         // Docker's list of images
	repositoriesName = "repositories"          // Docker's list of names, of old
	sumsName         = "SHA256SUMS"            // of these four, as sha256sum(1) has it
)

// Annotations of the descriptors in index.json.
const (
	// annotationName has an image's full name, host and tag included. Podman and
	// skopeo look for it.
	annotationName = ocispec.AnnotationRefName
	// annotationContainerd has the same for containerd, and the Engines on it.
	annotationContainerd = "io.containerd.image.name"
	// annotationSource has the name with the digest that the registry had for it.
	annotationSource = "org.fastpull.source"
	// annotationReferrer has the digest of what a referrer refers to, and
	// annotationTag the tag that it has in its repository, if it is one of cosign's.
	annotationReferrer = "org.fastpull.referrer"
	annotationTag      = "org.fastpull.tag"
	// annotationSince, of index.json itself, has the digest of the index.json of the
	// bundle that has the layers which this one lacks.
	annotationSince = "org.fastpull.since"
)

// dockerImage is an entry of manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// blobsDir is what the names of blobs begin with.
const blobsDir = ocispec.ImageBlobsDir + "/"

// blobName returns the name of a blob's file.
func blobName(d digest.Digest) string { return blobsDir + d.Algorithm().String() + "/" + d.Encoded() }

// digestOf returns the digest in the name of a blob's file. is reports whether the name is
// one of a blob; d is "" if it should be and has no digest.
func digestOf(name string) (d digest.Digest, is bool) {
	rest, is := strings.CutPrefix(name, blobsDir)
	if !is {
		return "", false
	}
	algorithm, encoded, _ := strings.Cut(rest, "/")
	if d = digest.Digest(algorithm + ":" + encoded); d.Validate() != nil {
		return "", true
	}
	return d, true
}

// memberName returns the name of a file in a foreign tar as it is kept: without "./" before
// it and without a slash behind it.
func memberName(name string) (string, error) {
	// The name is a part of a PAX header, which may have a megabyte.
	clean := strings.TrimPrefix(strings.TrimSuffix(strings.Clone(name), "/"), "./")
	if clean == "" || clean == "." {
		return ".", nil
	}
	if path.Clean("/"+clean) != "/"+clean || strings.HasPrefix(clean, "/") || strings.ContainsRune(clean, '\\') {
		return "", fault.New(fault.Corrupt, "a file in it is called %q", name)
	}
	return clean, nil
}

// blockSize is what files in a tar are padded to, in bytes.
const blockSize = 512

// header returns the header of a file in the tar. It has one block of 512 bytes for any size of
// the file. Only the name of a SHA-512 blob is too long for one block, and takes [longHeader]
// bytes. The format is GNU's, which can express any size. The header depends on nothing but the
// name and the size.
func header(name string, size int64) ([]byte, error) {
	var b bytes.Buffer
	err := tar.NewWriter(&b).WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644,
		ModTime: time.Unix(0, 0), Format: tar.FormatGNU,
	})
	return b.Bytes(), err
}

// longHeader is the size of the header of a file whose name has more than 100 bytes:
// the name comes in two blocks before it.
const longHeader = 3 * blockSize

// longName is what such a header begins with.
const longName = "././@LongLink"

// headerLen is the size of the header of a blob.
func headerLen(d digest.Digest) int64 {
	if len(blobName(d)) > 100 {
		return longHeader
	}
	return blockSize
}

// padding is how many zeroes follow a file's content.
func padding(size int64) int64 { return -size & (blockSize - 1) }
