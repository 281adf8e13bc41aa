// Package unpack turns the blob of a layer, as a registry has it, into a verified plain
// tar, and a plain tar into files.
//
// # Promises
//
// A [Reader] returns [io.EOF] only when the blob had the size and digest of its
// descriptor, and became a tar with the diffID of the image's config. Until then the
// caller must keep invisible what it made of the bytes.
//
// [Extract] creates, changes and removes nothing outside its root, whatever the tar
// says. That includes names, links, and symlinks that the layer itself brought.
//
// Both run no program. Both end soon after their context, with all their goroutines.
// Both need memory that has a bound, whatever the layer is: fixed buffers for each
// layer, and what they take from a [Memory], which all layers of a run share.
//
// # How a layer is decoded
//
// Package codec tells the format of a blob from its first bytes. Media types do not
// count. A Reader is a row of goroutines with bounded channels between them. One reads
// the blob and hashes it, one decodes, one hashes the plain bytes, and the caller reads
// the same buffers. So the two hashes run beside the decoder, not in line with it.
//
//	blob ─→ sha256 ─→ gzip, zstd, xz, bzip2 ─┬─→ sha256
//	                                         └─→ Read
//
// Gzip is decoded by package inflate.
//
// A zstd stream of many small frames (zstd:chunked, the seekable format) is decoded
// several frames at a time, on [Cores] that are idle. The headers of frames and blocks
// tell where a frame ends (RFC 8878, 3.1.1), so no table of contents is needed. From the
// first frame that is large, or not valid, the library's streaming decoder goes on.
//
// The streaming decoders of zstd and xz keep a history: zstd calls it the window, xz the
// dictionary. A header says how large it is, up to gigabytes for a stream of a few bytes.
// This package reads those headers itself, before a decoder sees them. It takes the
// memory from the Memory, and waits while other layers have too much of it. It refuses
// what no layer can have. Each frame of zstd and each block of xz can ask for another
// size, and each is looked at.
//
// # How a layer is extracted
//
// Extract reads the tar once. Headers, padding and content that no file keeps go to
// tar-split on the way, so that Docker can make the very tar of the layer again. The entries go to the file system
// by *at calls on directory descriptors. Names are handled in the order of the tar, on the
// caller's goroutine. Contents and metadata of files follow beside it, by descriptors, in
// batches. A name that is replaced meanwhile does not matter to them.
//
// Directories are resolved with openat2(2) where only directories are on the way.
// Elsewhere they are resolved one component at a time with O_NOFOLLOW, and symlinks by
// this package. So no path can leave the root on any kernel. Between entries descriptors
// are kept, never strings (CVE-2025-47290).
//
// Of an entry that is done, nothing is kept but a hash of its name, in 8 to 18 bytes. It
// tells whether Docker could store the layer. What a directory has to look like is on disk
// as soon as it is left, and whiteouts and opaque directories are looked up there.
//
// The layer rules are those of the OCI image-spec (layer.md). Where it leaves room they
// are those of Docker's overlay2 driver (moby's go-archive, diff.go and archive_linux.go).
// The places where fastpull differs on purpose say so.
package unpack
