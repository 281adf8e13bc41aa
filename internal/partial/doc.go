// Package partial keeps blobs on disk while they are downloaded, so that another process can
// continue a download.
//
// A [Folder] has a [File] for each blob. [File.Own] takes the lock for writing, a [Writer]
// writes, and [File.ReadWhole] reads what is complete. [File.Remove] removes the file.
//
// # Promises
//
//   - A block that the record calls whole has been written, also after a kill: it is
//     recorded when its write has returned. After a power failure that need not hold, so the
//     caller verifies the blob's digest.
//   - One process at a time downloads a blob. Its lock ends with the process. Other
//     processes may read the blocks that are whole.
//   - Nothing is flushed by fsync. A file that is removed soon never reaches the disk.
//
// # How it works
//
// A blob of n bytes is one file, named by its digest. The first n bytes are the blob's. The
// record is at the next multiple of 4096: a header with the blob's size, and one bit for each
// block of 16 KiB. The file is sparse: bytes that were not downloaded take no space.
//
// A [Section] is the part of a larger file that one blob has for itself. It has no file of its
// own. Its record is in the 512 bytes before it, and its blocks are so large that the record
// fits.
//
// The lock is flock(2). It belongs to an open file and not to a process, so two readers of
// one process behave like those of two processes.
package partial
