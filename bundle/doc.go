// Package bundle writes images as one tar that everybody reads.
//
// # Promises
//
// A bundle is an OCI image layout and Docker's archive at once, over the same
// blobs, each of which is in it once however many images have it. The same images
// written in the same order give the same bytes: names, modes, times and owners of
// its files are always the same.
//
// Layers are plain tars unless somebody asks for something else, so that no Engine
// has to decompress anything to load them: not even dockerd's import is safe on a
// host whose pigz is broken, it pipes compressed layers through unpigz as a pull
// does.
//
// A [File] gets its name, or its parts theirs, when it is complete. A draft that was left
// is taken for what it says only after its blobs have been hashed again, by the caller.
//
// # How it works
//
// First come the blobs, blobs/sha256/<hex>, then the lists of what there is, which
// are known only then. index.json and oci-layout (image-spec, image-layout.md) are
// for containerd, Podman and skopeo; manifest.json and repositories (moby,
// image/tarexport) for Docker, and for crane. Each image is a descriptor in
// index.json with its full name in the annotations that Podman and containerd look
// for. What refers to images, signatures and the like, has descriptors too, without
// names: by those Docker, Podman and containerd would take it for images. SHA256SUMS has the digests of those four, as blobs have theirs in their
// names: sha256sum -c checks it in an unpacked bundle.
//
// A [Reader] is in two parts: where the files of the tar are (tarball.go), and the index of
// what they are, which a parser makes of the lists, the manifests and the configs
// (parse.go, index.go, dockerarchive.go).
//
// Headers have the same length whatever the size ([header]). So a blob whose
// size nobody knows before it is decompressed can be written where it belongs, and
// its header last ([Writer.Stream]).
//
// Where sizes and digests of all blobs are known beforehand, as they are if nothing is
// done to them, each has its place at once ([Writer.Place]) and may come there whenever
// it does. Until a blob is whole, the record of what has come of it is where its header
// is to be ([partial.Room]). A draft is such a bundle with a name from the beginning:
// whoever is killed goes on with it. One whose images are others is used up to the first
// difference.
//
// An Engine that is running is given the same without entries in index.json: then
// there is manifest.json alone, and layers that it has may be left out.
package bundle
