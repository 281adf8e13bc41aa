// Package containerd brings images into a running containerd: that of a Kubernetes node, of
// nerdctl, or of Docker 29. It uses containerd's API and its directories, by package imagestore.
//
// Another mount may be at the path of a directory in this process. So the package tests each
// directory before the first layer. containerd has to count a file that this process puts into a
// snapshot, and this process has to see an ingest of the run in the content store. If a test
// fails, containerd unpacks the layers itself, or gets the blobs by its API.
//
// # Other processes
//
// The package takes no lock. If another process pulls the same image at the same time, the first
// snapshot or blob counts. What this process made of the same content is removed.
package containerd
