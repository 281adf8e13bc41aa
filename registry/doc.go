// Package registry is the remote side of a pull: image names, the hosts that
// serve them, the credentials for those, manifests, and blobs. It knows bytes
// and digests; what a layer or an image is, it does not know.
//
// What it promises:
//
//   - A [Manifest] has been hashed. What was asked for by digest has that
//     digest; the one that a registry names for a tag is worth a note if it differs.
//   - A blob from [Client.Blob] is exactly as long as its descriptor says: the
//     reader gives io.EOF there and nowhere else. It heals by itself what can
//     be healed: a lost connection, a stall, an overloaded server. It does not
//     hash, since its caller does so on the way.
//   - What [Client.Keep] has fetched stays on disk until the caller discards it:
//     whoever is killed goes on from there.
//   - Nothing waits for ever. Each step of a request has a time limit, a body
//     is given up when no byte came for a while, failures in a row are counted,
//     and every wait ends with its context.
//   - Credentials go to the host they are for and to the token server that it
//     names, by the rules of package auth, never to a host that a download is
//     redirected to, and those of a registry never to a mirror of it. What began
//     with https does not go on with http, unless the user has named the host.
//   - A digest is checked before it becomes part of an address.
//
// # How it works
//
// A registry is a list of hosts (endpoints.go): the mirrors that containerd's
// hosts.toml (hosts.go) or Docker's daemon.json (daemonjson.go) name, and its
// own. One after the other is asked; a blob changes hosts in the middle. For
// each host there is one [http.Transport] with the TLS configuration that Docker
// would use for it, and for each repository there one session (session.go). The first
// session is no login: requests are sent (request.go), and the challenge of an answer 401
// is answered by package auth, once however many requests wait for it, and again when the
// host asks in mid-pull. No host is greeted before it is asked for something. One that
// refuses without a challenge is greeted then, since it may have one for the root of the
// API.
//
// Requests are plain GETs, with a limit of time for their headers (silence.go), and bodies
// with a limit below and above (watch.go, limit.go). What is tried again is decided by one
// table (classify.go), and how often by retry.go.
//
// A part of a blob, or all of it, comes by one connection at a time (part.go), from
// the host that all parts of the blob are asked of (sources.go). A small blob is one
// part (blob.go). A large one is a file of package partial that a transfer fills by
// several connections (transfer.go, slow.go) while it is read (kept.go).
//
// # Plain http
//
// As in Docker, a host is spoken to by https, except that one which is
// loopback (127.0.0.0/8, ::1, or a name for one of them) or is listed in "insecure-registries"
// of Docker's daemon.json is not asked for a certificate to trust, and is
// tried by http when there is no https at all. Other private addresses get no
// such favour. Options.PlainHTTP makes it http for all hosts, except those that
// a configuration names with their scheme.
//
// # Sources
//
// The OCI distribution specification 1.1; the token protocol as described in
// distribution/distribution docs/content/spec/auth; moby daemon/pkg/registry
// (config.go, registry.go) for insecure registries and certs.d; containerd
// docs/hosts.md for hosts.toml and ?ns=; containers-auth.json(5) for Podman's
// credentials; RFC 9110 for ranges and Retry-After.
package registry
