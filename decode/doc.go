// Package decode turns the blob of a layer, as a registry has it, into a verified plain
// tar. Package unpack makes files of that tar.
//
// A [Reader] decodes a blob and verifies it. It returns [io.EOF] only if the blob has the
// size and the digest of its descriptor, and the plain tar has the diffID of the image's
// config. Until then the caller must not publish anything that it made of the bytes.
// [Decompress] returns a [Decoder], which verifies nothing. It is for streams other than
// layers, such as a compressed archive.
//
// Both decode in this process. Both end soon after their context, with all their
// goroutines. The memory of both is bounded, whatever the blob is: each has fixed buffers,
// and takes the rest from a [Memory], which all layers of a run share.
//
// # Stability
//
// What is verified, and that io.EOF says so, is stable. The Go interface may change with any
// version.
//
// # How a layer is decoded
//
// Package codec detects the format from the first bytes of the blob. Media types do not
// count. A Reader is a row of goroutines with bounded channels between them. One reads the
// blob and hashes it, one decodes, one hashes the plain bytes, and the caller reads the
// same buffers. So both hashes are computed beside the decoder, not in line with it.
//
//	blob ─→ sha256 ─→ gzip, zstd, xz, bzip2 ─┬─→ sha256
//	                                         └─→ Read
//
// Gzip is decoded by package inflate.
//
// A zstd stream of many small frames (zstd:chunked, the seekable format) is decoded
// several frames at a time, on [Cores] that are idle. The headers of frames and blocks
// tell where a frame ends (RFC 8878, 3.1.1), so no table of contents is needed. The
// library's streaming decoder decodes the rest, from the first frame that is large or
// not valid.
//
// The streaming decoders of zstd and xz keep a history: the window of zstd, the dictionary
// of xz. A header says how large it is, up to gigabytes for a stream of a few bytes. This
// package parses those headers before a decoder does. It takes the memory from the Memory,
// and waits while other layers have too much of it. It refuses a stream that asks for more
// than there is in all. Each frame of zstd and each block of xz can ask for another size,
// so each header is parsed.
package decode
