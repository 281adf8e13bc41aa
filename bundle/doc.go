// Package bundle writes and reads bundles. A bundle is one tar that is both an OCI image
// layout and Docker's archive, so that docker load, podman load, ctr, skopeo and crane read
// it.
//
// To write one, call [Create], give the [File] to [NewWriter], and call [File.Publish] at the
// end. To read one, call [Open]; [Reader.Verify] checks every byte of it.
//
// # Promises
//
// A blob is in a bundle once, however many images have it. The same images in the same order
// give the same bytes: names, modes, times and owners in the tar are constant.
//
// Layers are plain tars by default, so that no Engine has to decompress them. On a host with
// a broken pigz docker load is no safer than docker pull: the Engine pipes compressed layers
// through unpigz in both.
//
// A [File] or its parts get their names when they are complete. The exception is a draft, an
// incomplete bundle that a later run continues with. The caller hashes the blobs of a draft
// again before it uses them.
//
// A Writer and a File are for one goroutine, and a Reader is safe for concurrent use.
//
// # Stability
//
// The format is stable: a bundle of today can be read by later versions, and by the programs
// named above. The bytes for the same images may change with a minor version. The Go
// interface may change with any version.
//
// # Format
//
// The blobs come first, as blobs/sha256/<hex>. The lists follow, which are known only then:
//
//	index.json, oci-layout       for containerd, Podman and skopeo (image-spec, image-layout.md)
//	manifest.json, repositories  for Docker and crane (moby, image/tarexport)
//	SHA256SUMS                   digests of the four; sha256sum -c checks an unpacked bundle
//
// An image is a descriptor in index.json, with its full name in the annotations that Podman
// and containerd look for. Referrers, such as signatures, are descriptors without a name.
// With a name, Docker, Podman and containerd would take them for images.
//
// An Engine gets the same without entries in index.json. Then manifest.json is the only list,
// and layers that the Engine has may be left out.
//
// # How it works
//
// A [Reader] has two parts. tarball.go finds the files of the tar. The index describes
// them, and is made of the lists, manifests and configs (parse.go, index.go, dockerarchive.go).
//
// A header has the same length for any size of its file (format.go). So [Writer.Stream]
// writes a blob of unknown size to its final offset, and the header afterwards.
//
// If all sizes and digests are known beforehand, [Writer.Reserve] gives each blob its final
// offset, and blobs are written in any order. Until a blob is complete, a record of its
// downloaded bytes is at the offset of its header ([partial.Section]). A draft is a bundle of
// this kind with a name. The next run continues with it. If that run has other images, it
// continues up to the first difference.
package bundle
