// Package containerd brings images into a running containerd, that of a Kubernetes node, of
// nerdctl, or of Docker 29. They are there as after a pull of containerd's own: the
// registry's manifests and blobs with their digests in the content store, the layers
// unpacked as snapshots, and the names.
//
// # How it works
//
// Everything is made under one lease, which containerd deletes by itself if this process
// is killed.
//
// Layers are extracted in any order and at the same time, each into a staging snapshot
// without a parent. Package unpack does that: containerd runs no decompressor. A large blob
// is downloaded into a file beside the content store, where a later run can go on with it,
// and the verified file is moved into the store. A small one is sent to containerd, and so is
// every blob if the store is out of reach.
//
// When all layers of an image are there, the snapshots are committed, parents first. A
// snapshotter with the capability rebase gives a staging snapshot its parent then. For
// another one the directory is moved into a new snapshot on the parent.
//
// This takes the overlayfs snapshotter, access to its directories, and the user namespace of
// containerd. Begin proves the access: containerd counts a file that this process puts there.
// Otherwise containerd unpacks the layers, one after the other, from plain tars that are given
// to it. It runs no decompressor for those.
//
// Then the documents of the image are stored, the config first and what the reference
// names last, each with the labels that keep what it refers to. The names come last of all.
//
// # Other processes
//
// No lock is held. Another process may pull the same image at the same time: a snapshot or
// a blob that is there first is used, and what this process made of it is removed.
package containerd
