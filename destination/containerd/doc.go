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
// without a parent, while the blob goes into the content store. Package unpack does that:
// containerd runs no decompressor. When all layers of an image are there, the snapshots are
// committed, parents first. A snapshotter with the capability rebase gives a staging
// snapshot its parent then. For another one the directory is moved into a new snapshot on
// the parent.
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
