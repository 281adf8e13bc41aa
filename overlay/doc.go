// Package overlay is the store: a directory in the format of Docker's own
// data-root with the overlay2 driver, written without a daemon.
//
// # Promises
//
// A layer or image is in the store as a whole or not at all, also after a crash
// at any point: what makes it visible is one rename, and it comes last. What a
// crash leaves behind lies where neither Docker nor fastpull looks, and the next
// [Open] sweeps it. What is known of a layer is on disk before it is visible; its
// files, as with Docker, are when the kernel writes them: after a power failure a
// layer that was made in the last half minute may lack content.
//
// Several processes may write to one store. They lock single layers, so that
// nobody waits for a layer that he does not want, and a process that dies has
// no locks.
//
// What is removed goes the same way backwards, and what somebody needs stays: layers
// of images, those that a pull builds on, that are mounted, and that Docker's
// containers and builder have. A layer that is damaged is replaced at once.
//
// A root that a running dockerd uses is refused: the daemon keeps its lists in
// memory, would not see what is added and overwrite it with its next change.
//
// A store has one owner, and one form of opaque directories: whom that would mix
// up may not write to it. Without all of root's rights it is as good as what the
// kernel allows, but Docker's root daemon does not see its opaque directories.
//
// # How it works
//
// Under the root there are Docker's folders, described in its own terms:
//
//	overlay2/<cache-id>/{diff,link,lower,work}   a layer's files, and where it is in a mount
//	overlay2/l/<short id>                        symlink to its diff, for short mount options
//	image/overlay2/layerdb/sha256/<chainID>/     what is known of it, with tar-split
//	image/overlay2/imagedb/content/sha256/<id>   configs
//	image/overlay2/distribution/                 which blob became which diffID
//	image/overlay2/repositories.json             names
//
// and one of fastpull's own, on the same file system so that renames work:
//
//	fastpull/lock              byte-range locks: one byte a layer that is being made,
//	                           one, shared, a layer that somebody builds on, and one
//	                           for who changes the lists of images, names and blobs
//	fastpull/run/<id>/         what a running process is working on; the folder is
//	                           locked for as long as the process lives
//	fastpull/pending/<id>      layers that are about to move into overlay2/, or out
//	fastpull/opaque            the attribute that makes a directory opaque in this store
//
// The format was read in moby (daemon/graphdriver/overlay2, layer/filestore.go,
// image/fs.go, reference/store.go, distribution/metadata), versions 19.03 to 29.
package overlay
