// Package containerd brings images into a running containerd, that of a Kubernetes node, of
// nerdctl, or of Docker 29. Package imagestore does that, as its documentation says, through
// containerd's API and by its directories.
//
// Before the first layer, containerd has to count a file that this process puts into one of
// its snapshots, and an ingest of the run has to appear in the directory of the content
// store. Otherwise this process has other directories at their paths, and containerd unpacks
// the layers itself, or gets the blobs by its API.
//
// # Other processes
//
// No lock is held. Another process may pull the same image at the same time: a snapshot or
// a blob that is there first is used, and what this process made of it is removed.
package containerd
