// Package push pushes the images of a bundle to a registry.
//
// # Promises
//
// A registry gets what the bundle has: manifests, indexes and blobs, byte for byte. Blobs
// that the repository has are not sent. Blobs that this run has sent to another repository
// of the registry are mounted from there.
//
// The tag of an image is set last. Images are pushed one after the other, so a run that fails
// leaves complete images only. Referrers of an image are pushed after it.
//
// An index cannot be pushed as it is if the bundle and the registry both lack one of its
// manifests. Then what there is of it is pushed, and the caller's display warns.
//
// # How it works
//
// The bundle's manifests and blobs are presented to go-containerregistry as an image or an
// index (images.go). Package registry pushes them over its own connections. A bundle of
// bundle --since lacks layers that the registry should have. They are looked up there, and
// only a missing layer is an error.
//
// A blob whose connection breaks is sent from its beginning. The specification lets a client
// ask how many bytes have arrived. But docker-registry 2.8 gives up an upload that broke off
// in the middle of a request, in chunks or not (BLOB_UPLOAD_INVALID: the size is not that of
// its state).
package push
