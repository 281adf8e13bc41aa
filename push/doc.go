// Package push brings the images of a bundle to a registry.
//
// # Promises
//
// What is pushed is what the bundle has: manifests, indexes and blobs, byte for byte.
// Blobs that are in the repository are not sent, and what this run has sent to
// another repository of the registry is mounted from there. An image's tag is set
// when everything that it needs is there, and images are pushed one after the other,
// so that a run that fails leaves whole images only. What refers to an image follows it.
//
// An index of which manifests are neither in the bundle nor in the registry cannot be
// pushed. What there is of it is, and the caller's display warns.
//
// # How it works
//
// A bundle's manifests and blobs are shown to go-containerregistry as an image or an
// index (images.go); package registry has it push them with its own connections.
// The layers that a bundle of `bundle --since` lacks have to be in the registry:
// they are asked for, and only if they are missing it is an error.
//
// A blob whose connection breaks is sent from its beginning. The specification lets a
// client ask how much has come, but docker-registry 2.8 gives up an upload
// that was broken off in the middle of a request (BLOB_UPLOAD_INVALID, as the size is
// not that of its state), in chunks or not.
package push
