// Package dockerroot brings images into a store: Docker's data-root with the overlay2
// driver. Package overlay has the format, which is that of Docker 19.03 to 29.
//
// [Open] is for the root of a daemon that does not run. [Stage] prepares images beside one
// that runs, for [Publish] when it is stopped. [Restart] does both, and stops and starts the
// daemon between.
//
// Layers are extracted in any order and at the same time. They are staged until all layers
// of an image are there, and are then committed, parents first: nothing is left of an
// image that fails. Only where another process pulls the same layers, each complete layer
// is committed at once.
//
// After a kill the next run removes the staged layers, and continues with the partial
// blobs. After a power failure an image that was reported is there as a whole. [Repair]
// fetches damaged parts of a store again.
package dockerroot
