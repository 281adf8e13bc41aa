// Package serve is a registry that can only be read. Its images are those of a bundle, of
// a store or of containerd, so that one host of a network without a registry feeds the
// others by plain docker pull.
//
// # Promises
//
//   - It answers as the OCI distribution specification 1.1 says for the category Pull:
//     manifests by tag and by digest, blobs with ranges, lists of tags, of repositories
//     and of referrers. Nothing can be written.
//   - Everything in a bundle or a store was verified before the first request. A bundle that
//     was written to since, a layer that was removed or replaced, and a file whose size has
//     changed are refused; an answer during which a file turns out to have changed is broken
//     off. Of containerd's content manifests alone are verified: containerd has verified
//     blobs when they came, and clients verify them again.
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
// What containerd has is asked for by its API, for each request, and read from its files; the
// digests are the registry's own (containerd.go). A client that names a registry, as clients of a mirror do, gets
// the images of that registry only. There is no list of referrers: containerd has the
// image and not what refers to it.
//
// # Ranges
//
// [http.ServeContent] takes a reader with a position. For several ranges in one request it reads
// from a goroutine, which may still run when the handler has returned. So content here is a blob
// (blob.go), which has no position: the handler opens a reader at the first byte that is asked
// for, and reads it itself. A request for several ranges gets the whole blob, once (range.go).
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
// If a client has as many requests as the table allows, as many more may wait for 20 seconds.
// Further requests, and those that have waited longer, get 429 Too Many Requests for the
// client's bound, or 503 Service Unavailable for the bound of all, with the time after which to
// ask again. A connection beyond the bound of one client is closed.
//
// Four manifests of containerd are read at a time, each of 4 MiB at most.
//
// A request for a blob takes 64 KiB of memory. A tar that is made takes about 260 KiB more and
// some 12 descriptors. Before its first byte is sent, at most 1 MiB of the layer's tar-split is
// decompressed, or 1/32 of it if that is more.
package serve
