// Package serve is a registry that can only be read. Its images are those of a bundle
// or of a store, so that one host of a network without a registry feeds the others by
// plain docker pull.
//
// # Promises
//
//   - It answers as the OCI distribution specification 1.1 says for the category Pull:
//     manifests by tag and by digest, blobs with ranges, lists of tags, of repositories
//     and of referrers. Nothing can be written.
//   - Everything was verified before the first request. A bundle that was written to
//     since, a layer that was removed or replaced, and a file whose size has changed are
//     refused; an answer during which a file turns out to have changed is broken off.
//   - No client can make it send another client a wrong byte. Each request has a reader
//     of its own, and the reader is closed when the request ends, however it ends.
//   - What one client can take of the host is bounded: see below.
//   - A client that takes nothing for a minute is dropped, and so is one that sends
//     nothing. No other client waits for it.
//   - The end of the context is the end of the server, within seconds.
//
// # How it works
//
// An image that is called host:5000/team/img:1.2 elsewhere is 1.2 of the repository
// team/img here. Blobs of a bundle come from its file. Plain layers are served as plain
// layers, so that a docker pull from here runs no unpigz.
//
// Layers of a store are plain tars that package overlay makes again from their files
// (store.go). One pass at the start compares them with their diffIDs, and indexes them. By
// the index a range of a tar costs little more than the bytes of the range.
//
// # Ranges
//
// A [http.ServeContent] is given a reader with a position. For several ranges in one
// request it reads from a goroutine that it does not wait for when the client is gone. So
// content here is a blob (blob.go), which has no position: the handler opens a reader at
// the first byte that is asked for, and reads it itself. There is no answer with several
// ranges (range.go): a request that asks for several gets the whole blob, once.
//
// # Bounds
//
// A client is an IPv4 address or half an IPv6 address (gate.go, listen.go, limits.go):
//
//	                     one client           all
//	blobs at a time      64 (PerClient)       1024, or as many as there are descriptors for
//	other requests       64 (PerClient)       1024
//	connections          256 (4 * PerClient)  4096, or half of the descriptors
//	request headers      64 KiB, within 10 seconds
//
// As many requests of a client as may be answered may wait, for 20 seconds. What is more,
// or has waited longer, gets 429 Too Many Requests where it is the client's own bound and
// 503 Service Unavailable where it is that of all, with the time after which to ask again.
// A connection too many of one client is closed.
//
// For a request that sends a blob there are 64 KiB of memory, and for a tar that is made
// about 260 KiB more and some 12 descriptors. Before the first byte of it is sent, at most
// 1 MiB of the layer's tar-split is decompressed, or 1/32 of it where that is more.
package serve
