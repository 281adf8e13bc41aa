// Package serve is a registry to read from, whose images are those of a bundle or a
// store: one host of a place without a network feeds the others by plain docker pull.
//
// # Promises
//
// It answers as the OCI distribution specification 1.1 says for the category Pull:
// manifests by tag and by digest, blobs with ranges, lists of tags, repositories and
// referrers. Nothing can be written. What is served was verified before the first
// request.
//
// A client that takes nothing for a minute is dropped, and so is one that says
// nothing; nobody else waits for them. The end of the context is the end of the
// server, within seconds.
//
// # How it works
//
// An image that is called host:5000/team/img:1.2 there is 1.2 of the
// repository team/img here. Blobs of a bundle come straight from its file. Plain
// layers are served as plain layers, so that a docker pull from here runs no unpigz.
//
// Layers of a store (store.go) are plain tars that package overlay makes again from
// their files. One pass at the start finds out how long they are and that they are what
// their diffIDs say. A range is made from its place on: tar-split tells what is before it.
// For that it has to be decoded up to there, so that some tars stay open where a range
// ended (tar.go): who asks for one range after the other decodes it once.
package serve
