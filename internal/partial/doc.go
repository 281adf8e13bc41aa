// Package partial keeps blobs on disk while they are being fetched, so that what
// one process has fetched another can go on with.
//
// What it promises:
//
//   - What the record of a file calls whole has been written by then: after a
//     kill too, since a block is recorded once its write has returned. After a
//     power failure it may be otherwise; the caller verifies the blob's digest.
//   - One process at a time fetches a blob. The right to do so is a lock, which
//     ends with the process; others may read meanwhile what is whole already.
//   - Nothing is written with fsync, and what was removed in time never reaches
//     the disk at all.
//
// # How it works
//
// A blob of n bytes is one file, named by its digest. The first n bytes are the
// blob's. Behind them, at the next multiple of 4096, is the record: a header with
// the blob's size, and one bit for each block of 16 KiB. The file is sparse; what
// was not fetched takes no room. A file that ends with the blob has no record, and is
// whole: its process was about to give it away ([File.MoveTo]).
//
// A [Room] is a place for a blob in a larger file that is being made: it has no file
// of its own, and its record is in the 512 bytes before it, with blocks as large as
// that needs.
//
// The lock is flock(2), which belongs to an open file and not to a process: two
// readers of one process are to each other as those of two processes are.
package partial
