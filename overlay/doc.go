// Package overlay is the store: a directory in the format of Docker's own
// data-root with the overlay2 driver, written without a daemon.
//
// # Promises
//
// A layer or image is in a store as a whole, or not at all, also after a crash at any point. The
// last step is one rename, which makes it visible. Before that, its metadata and files are on
// the disk. What a crash leaves behind is in folders that neither Docker nor fastpull reads, and
// the next [Open] removes it. The names of an image are on the disk after [Store.Sync], and at
// the latest after [Store.Close]. With [Options].NoSync, the kernel decides when files and names
// reach the disk.
//
// Several processes may write to one store. They lock single layers, so that a process
// waits only for layers that it needs. The locks of a process end with it.
//
// Removal takes the same steps in reverse. It leaves layers that are in use: by images,
// by pulls that build on them, by mounts, and by Docker's containers and builder. A
// damaged layer is replaced in one step.
//
// A store takes no image that docker pull refuses, or with which a dockerd does not
// start ([image.CheckDocker]). [Reader.Verify] finds such images, and [Store.Remove]
// removes them. [Staged.Prove] tells if Docker can save a layer that replaces files of
// its own.
//
// The root of a running dockerd is refused. The daemon keeps its lists in memory: it
// would not see what is added, and would overwrite it with its next change. Images can be
// prepared for it in a store of their own, [Staging], and are moved into the root when the
// daemon is stopped.
//
// A store has one owner, and one form of opaque directories. [Open] refuses a process that would
// add another. A process without all rights of root makes a store without the things that the
// kernel refuses. Docker's root daemon does not see the opaque directories of such a store.
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
//	fastpull/lock              byte-range locks: one for each layer that is being made,
//	                           a shared one for each layer in use, and one for changes
//	                           to the lists of images, names and blobs
//	fastpull/run/<id>/         what a running process is working on; the folder is
//	                           locked for as long as the process lives
//	fastpull/pending/<id>      layers that are about to move into overlay2/, or out
//	fastpull/pending/<id>.image  images that were removed, while names may still lead to them
//	fastpull/staged/           a store with what waits to be published, see [Staging]
//	fastpull/opaque            the attribute that makes a directory opaque in this store
//
// The format was read in moby (daemon/graphdriver/overlay2, layer/filestore.go,
// image/fs.go, reference/store.go, distribution/metadata), versions 19.03 to 29.
package overlay
