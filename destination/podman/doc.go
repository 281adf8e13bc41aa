// Package podman brings images into the store that Podman, CRI-O and Buildah share, that of
// containers/storage with the driver overlay. It uses their library, go.podman.io/storage:
// its locks, its files, and its interface for layers that are staged by another extractor.
//
// Layers are extracted in any order and at the same time, into staging directories of the
// store. When all layers of an image are there and on the disk, they get their names in the
// store, parents first, and then the image does. Each step is one of the library, under its
// lock. The tar-split data is kept, so that podman save and push make the very layers again.
//
// # Differences from a podman pull
//
// The library's interface for staged layers takes no size and kind of compression of a
// layer: layers.json lacks compressed-size and compression, as after Podman's own pull of a
// zstd:chunked image.
//
// # What the library costs
//
// It adds 16 modules, and 3.3 MB to the program, stripped: 26.5 instead of 23.3 MB. It has
// the format, and its locks, of all versions of Podman.
//
// With cgo it needs the headers of btrfs, or the tag exclude_graphdriver_btrfs. A build with
// neither has no Podman.
//
// # What the library runs
//
// It decompresses nothing here, and so does not run pigz. It mounts no layer either, and so
// runs no mount program (fuse-overlayfs). It runs itself again for what this package does not
// use: without a call of reexec.Init, which fastpull does not make, that panics. fastpull
// does not become root of a user namespace itself: without root, it has to be run by podman
// unshare.
//
// # After a kill
//
// The staging directories of a process that was killed are removed by the next run. A layer
// that the library had begun to name is marked incomplete in layers.json, and removed by the
// library when it is opened next.
//
// When it is opened, the library tries in the store what overlayfs can do, and notes the result
// in the run root of Podman, until the machine starts again. What a kill leaves of that is
// removed after a minute. In the store of another root nothing is tried.
//
// # Other processes
//
// The library has no way to stage a layer only if it is not there: it is looked for just
// before. A process that adds the same layer between has it replaced by the same files.
package podman
