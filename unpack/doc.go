// Package unpack turns the bytes of a layer, as a registry keeps them, into a
// verified plain tar, and a plain tar into files.
//
// # Promises
//
// A [Reader] returns [io.EOF] only when the blob had the size and digest of its
// descriptor and became a tar with the diffID of the image's config. Whatever
// was done with its bytes until then has to stay invisible.
//
// [Extract] creates, changes and removes nothing outside its root, whatever
// the tar says: names, links and symlinks that came with the layer included.
// Both need memory that does not grow with the layer, but for a few bytes an
// entry, and both end soon after their context does, with all goroutines. No program is run:
// formats are decoded in this process.
//
// # How it works
//
// A Reader is a row of goroutines with bounded channels between them: one
// reads the blob and hashes it, one decodes, one hashes what came out, and the
// caller reads the same buffers. So the two hashes run beside the decoder and
// not in line with it.
//
//	blob ─→ sha256 ─→ gzip, zstd, xz, bzip2 ─┬─→ sha256
//	                                         └─→ Read
//
// A zstd stream of many small frames (zstd:chunked, the seekable format) is decoded a
// row of frames at a time, further rows on the [Cores] that are idle. The headers of
// frames and blocks tell where a frame ends (RFC 8878, 3.1.1), so no table is needed.
// From the first frame that is large, or bad, the streaming decoder goes on.
//
// Extract walks the tar once. Headers, padding and content that no file keeps go to
// tar-split on the way, so that Docker can make the very tar again. Entries go to the
// file system by *at calls on directory descriptors. All that has to do with
// names happens in the order of the tar, on the caller's goroutine. Contents and
// metadata of files follow beside it, by descriptors, in batches; a name that is
// replaced meanwhile does not matter to them.
//
// Directories are resolved with openat2(2) where nothing but directories is on
// the way, and otherwise a component at a time with O_NOFOLLOW, symlinks by this
// package itself, so that no path can leave the root on any kernel. What is kept
// for the next entry is descriptors, never strings (CVE-2025-47290).
//
// Nothing is kept in memory of entries that are done with, but for 8 bytes each
// that tell if Docker could store the layer: what a directory has to look like
// is on disk as soon as it is left, and whiteouts and opaque directories are
// looked up there.
//
// The layer rules are those of the OCI image-spec (layer.md); where that leaves
// room they are what Docker's overlay2 driver does (moby's go-archive, diff.go
// and archive_linux.go), and the places where fastpull differs on purpose say so.
package unpack
