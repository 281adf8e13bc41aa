// Package imagestore brings images into the image store of containerd: its content store,
// its snapshots and its names. They are there as after a pull of containerd's own: the
// registry's manifests and blobs with their digests, the layers unpacked, and the names.
//
// A [Containerd] is what has the store. Package containerdapi speaks with one that runs, and
// package containerdfiles opens the files of one that does not. The destinations for both
// are this package with either of them.
//
// # How it works
//
// Everything is made under one lease. If this process is killed, containerd deletes the lease
// when it expires, with what no image has.
//
// Layers are extracted in any order and at the same time, each into a staging snapshot
// without a parent. Package unpack does that: containerd runs no decompressor. A large blob
// is downloaded into a file beside the content store, where a later run can go on with it,
// and the verified file is moved into the store. A small one is written through the
// Containerd, and so is every blob if the directory is out of reach.
//
// When all layers of an image are there, the snapshots are committed, parents first. If the
// snapshotter can rebase, a staging snapshot gets its parent then. Otherwise its directory is
// moved into a new snapshot on the parent.
//
// This takes the overlayfs snapshotter, and access to its directories ([Reach]). Otherwise
// containerd unpacks the layers, one after the other, from plain tars that are given to it.
// It runs no decompressor for those.
//
// Then the documents of the image are stored, the config first and what the reference
// names last, each with the labels that keep what it refers to. The names come last of all.
package imagestore
