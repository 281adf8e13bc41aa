// Package registry is a client of image registries: names, hosts and mirrors, credentials,
// manifests and blobs. It knows bytes and digests, and not what a layer or an image is.
//
// For most callers: [ParseReference] parses a name, and [New] returns a [Client] that is
// configured like Docker on the same machine. [Client.Manifest] fetches a manifest,
// [Client.Blob] reads a blob, and [Client.Download] reads a blob by way of a file from which
// another process can resume.
//
// # Promises
//
//   - A [Manifest] has been hashed. One that was asked for by digest has that digest. If a
//     registry names another digest for a tag than that of the bytes, the user gets a note.
//   - The reader of [Client.Blob] returns exactly as many bytes as the descriptor says, and
//     io.EOF only after them. It resumes after lost connections, stalls and overloaded servers.
//     It does not hash: the caller does.
//   - The bytes that [Client.Download] has fetched stay on disk until the caller discards them.
//     After a kill the next process continues from there.
//   - Nothing waits for ever. Each step of a request has a time limit. A body without bytes
//     is given up. Failures in a row are counted. Every wait ends with its context.
//   - Credentials go to the host that they are for, and to its token server by the rules of
//     package auth. They do not go to hosts that a download is redirected to, and those of a
//     registry do not go to a mirror. A request that began with https does not continue with
//     http, unless the user has named the host.
//   - A digest is checked before it becomes part of a URL.
//
// A Client is safe for concurrent use.
//
// # Stability
//
// The promises, and the configuration files that are read, are stable. The Go interface may
// change with any version.
//
// # Hosts and requests
//
// A registry is a list of hosts (endpoints.go): the mirrors that containerd's hosts.toml
// (hosts.go) or Docker's daemon.json (daemonjson.go) name, and then its own. They are asked in
// that order. If a host fails in the middle of a blob, the next one sends the rest. Each host
// has an [http.Transport] with the TLS configuration that Docker would use for it. Each
// repository of a host has a session (session.go).
//
// The first session has no login. Requests are sent (request.go), and package auth answers
// the challenge of a 401, once for all requests that wait for it, and again when a token
// expires. The root of the API is not asked first. It is asked if a host refuses without a
// challenge, since some hosts have a challenge only there.
//
// Requests are GETs with a time limit for their headers (silence.go). Their bodies have a
// lower and an upper limit for the rate (watch.go, limit.go). One table decides what is
// tried again (classify.go), and retry.go how often.
//
// # Blobs
//
// One connection at a time downloads a part of a blob, or all of it (part.go). All parts of a
// blob come from the same host (sources.go). A small blob is one part (blob.go). A large blob
// is a file of package partial, which a transfer fills by several connections (transfer.go,
// slow.go) while it is read (download.go).
//
// # Plain http
//
// The rules are Docker's. The client speaks https with hosts. A host is insecure if it is loopback
// (127.0.0.0/8, ::1, or a name for one of them) or is listed in "insecure-registries" of
// Docker's daemon.json. The certificate of an insecure host is not verified, and http is
// tried if the host has no https. Other private addresses are not insecure. With
// Options.PlainHTTP all hosts are spoken to by http, except those that a configuration names
// with their scheme.
//
// # Sources
//
// The OCI distribution specification 1.1; the token protocol as described in
// distribution/distribution docs/content/spec/auth; moby daemon/pkg/registry
// (config.go, registry.go) for insecure registries and certs.d; containerd
// docs/hosts.md for hosts.toml and ?ns=; containers-auth.json(5) for Podman's
// credentials; RFC 9110 for ranges and Retry-After.
package registry
