// Package engine brings images into a running Docker Engine, by its API. Package daemon
// speaks that.
//
// The layers that the Engine lacks are fetched and decompressed into files without a name,
// which vanish with the process. An archive of plain layers is streamed to the Engine as
// they get ready, so that it has no use for a decompressor. Images are loaded one after
// the other, since an Engine is not faster with two; while one is loaded the next one is
// fetched.
//
// The form of the archive depends on the Engine ([form]). After each load the API proves
// that the image can be used. What is in the Engine for a load alone is removed after it;
// after a kill the next run removes it.
package engine
