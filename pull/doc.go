// Package pull brings images from their source to a destination.
//
// # Promises
//
// Manifest, config, blobs and layers are verified before anything of them is visible at
// the destination. A layer that several images of a run have is fetched once. When a run
// ends, well or badly, nothing is left half done, and no goroutine of it is running.
//
// # How it works
//
// [Run] resolves every reference to an image, and asks the destination what it lacks. A
// dry run reports that, and ends. Otherwise the destination gets a transaction for the
// image, and all layers of all images are brought at the same time. Each layer waits for
// one of the run's slots, which go to the biggest layers first.
//
//	references ─→ resolve ─→ Lookup ─┬─→ (dry run) where each layer would come from
//	                                 └─→ Begin ─→ Layer … Layer ─→ Commit
//
// The package knows no destination, no file format and no flag. Package destination says
// what a destination has to do.
package pull
