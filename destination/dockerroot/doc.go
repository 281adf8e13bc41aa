// Package dockerroot brings images into a store: Docker's data-root with the overlay2
// driver. Package overlay has the format, which is that of Docker 19.03 to 29.
//
// [Open] is for the root of a daemon that does not run. [Stage] prepares images beside one
// that runs, for [Publish] when it is stopped. [Restart] does both, and stops and starts the
// daemon between.
//
// Layers are extracted in any order and at the same time. They stay staged until all layers of
// an image are complete. Then they are committed, parents first. So an image that fails leaves
// no layers. If another process pulls the same layers, each layer is committed as soon as it is
// complete.
//
// After a kill the next run removes the staged layers, and continues with the partial blobs. An
// image that was reported as pulled is complete also after a power failure. [Repair] fetches
// damaged parts of a store again.
package dockerroot
