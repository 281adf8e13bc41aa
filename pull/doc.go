// Package pull brings images from registries to a destination: the Docker
// Engine, a store, an archive or a directory.
//
// # Promises
//
// Manifest, config, blobs and layers are verified before anything of them can
// be seen at the destination. A layer that several images of a run have, under
// whatever parent, is fetched and unpacked once. When a run ends, well or badly,
// nothing that it began is left half done, and no goroutine of it is running.
//
// # How it works
//
// [Run] resolves every reference to an image and hands it to the destination,
// which asks back for the layers that it lacks. Layers are shared calls (group):
// the first image that needs one starts it, and it is cancelled when no image
// waits for it any more. A call waits for one of the run's slots before it
// works, and slots go to the biggest layer first, since the last big one decides
// when the run ends. No call waits for another while it holds a slot.
//
//	references ─→ resolve ─→ destination ─┬─ store:   extract each layer, commit parents first
//	                                      ├─ engine:  spool plain layers, stream an archive to it
//	                                      ├─ archive: write one after the other, or each to its place
//	                                      └─ rootfs:  extract each, merge in order
package pull
