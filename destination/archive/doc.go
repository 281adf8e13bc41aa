// Package archive writes images to a bundle: one tar that docker load, podman load, ctr,
// skopeo and crane read. Package bundle has the format.
//
// The file gets its name when it is complete, with all images of the run. The same images in the
// same order give the same bytes: images are written in the order in which they were named, and
// the blobs of each image in a fixed order.
//
// After a kill nothing is left. The exception is a single uncompressed file with the registry's
// own blobs ([bundle.Keep]): its draft stays, and the next run continues with it.
package archive
