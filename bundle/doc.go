// Package bundle writes images as one tar that `docker load` takes.
//
// # Promises
//
// Layers are in it as plain tars, so that no Engine has to decompress anything
// to load it: not even dockerd's import is safe on a host whose pigz is broken,
// it pipes compressed layers through unpigz as a pull does. The same images
// written in the same order give the same bytes.
//
// # How it works
//
// The archive is Docker's (moby, image/tarexport): manifest.json names for each
// image its config, its tags and its layers. Config and layers are files called
// blobs/sha256/<hex>, as in an OCI layout; a layer's digest is its diffID. A blob
// is written once, however many images have it. manifest.json comes last, when
// it is known which images are whole; Engines unpack the archive before they
// look at it.
package bundle
