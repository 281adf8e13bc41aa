// Package archive writes images to a bundle: one tar that docker load, podman load, ctr,
// skopeo and crane read. Package bundle has the format.
//
// The file gets its name when it is complete, with all images of the run. The same images
// give the same bytes: they are written in the order in which they were named, and the
// blobs of each image in an order of their own.
//
// After a kill nothing is left, or, where the registry's blobs are kept as they are, the
// draft that the next run continues with.
package archive
