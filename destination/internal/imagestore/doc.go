// Package imagestore brings images into containerd's image store: its content store, snapshots
// and names. The result is that of a pull by containerd: the registry's manifests and blobs with
// their digests, unpacked layers, and names.
//
// A [Containerd] gives access to the store. Package containerdapi implements it for a running
// containerd, and package containerdfiles for the files of one that does not run. The
// destinations for both use this package.
//
// # How it works
//
// Everything is made under one lease. If this process is killed, the lease expires, and
// containerd deletes everything that no image has.
//
// Layers are extracted in any order and at the same time, each into a staging snapshot without a
// parent. Package unpack extracts them, so containerd runs no decompressor. A large blob is
// downloaded into a file beside the content store, from which a later run can continue. The
// verified file is moved into the store. A small blob is written through the Containerd, and so
// is every blob if this process has no access to the directory.
//
// When all layers of an image are there, the snapshots are committed, parents first. If the
// snapshotter can rebase, a staging snapshot gets its parent then. Otherwise its directory is
// moved into a new snapshot on the parent.
//
// This needs the overlayfs snapshotter, and access to its directories ([Reach]). Otherwise
// containerd unpacks the layers itself, one after the other, from plain tars. It runs no
// decompressor for those.
//
// At the end the documents of the image are stored: the config first, and the document that the
// reference names last. Their labels protect the content that they refer to from the garbage
// collection. The names are set last of all.
package imagestore
