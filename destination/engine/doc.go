// Package engine brings images into a running Docker Engine, by its API. Package daemon
// speaks that.
//
// The layers that the Engine lacks are fetched, decompressed, and sent as plain tars, so that
// it has no use for a decompressor. What has to wait does so in files without a name, which
// vanish with the process. Images are loaded one after the other, since an Engine is not
// faster with two; while one is loaded the next one is fetched.
//
// An Engine with a graph driver gets an image in several archives ([relay]): it registers the
// layers of one while the next one comes. The lowest layer is imported without an archive. An
// Engine with containerd's store gets all layers in one archive ([sending]). The form of the
// archives depends on the Engine ([form]). After each load the API proves that the image can be
// used. What is in the Engine for a load alone is removed after it; after a kill the next run
// removes it ([part]).
package engine
