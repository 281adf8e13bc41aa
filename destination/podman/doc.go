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
// The library decompresses nothing here, so it does not run pigz. It mounts no layer, so it runs
// no mount program (fuse-overlayfs). For functions that this package does not use, the library
// starts its own executable again. That panics without a call of reexec.Init, which fastpull
// does not make. fastpull does not become root of a user namespace: without root, it has to be
// started by podman unshare.
//
// # After a kill
//
// The next run removes the staging directories of a process that was killed. If the library had
// begun to name a layer, the layer is marked incomplete in layers.json, and the library removes
// it when it opens the store again.
//
// When the library opens a store, it tests in the store what overlayfs can do. It notes the
// result in Podman's run root, until the machine is started again. What a kill leaves of that
// test is removed after a minute. If the store is not Podman's own, fastpull notes the result
// beforehand, and nothing is tested. In a user namespace the library always tests.
//
// # Other processes
//
// The library cannot stage a layer only if the layer is missing, so fastpull looks for it just
// before. If another process adds the same layer in between, this process replaces it by the
// same files.
package podman
