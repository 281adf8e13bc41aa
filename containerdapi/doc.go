// Package containerdapi asks a running containerd what it has, and gives it content,
// snapshots and images.
//
// The package promises the following.
//
//   - It needs only containerd's gRPC API, as containerd 1.6 and later have it.
//   - No call waits for ever. A question has a deadline. A write ends when containerd takes
//     nothing for [Options.StallTimeout].
//   - Errors of containerd keep their kind: use the functions of package errdefs.
//   - A call ends when its context does, with the cause of that.
//
// # Use
//
// [Dial] connects. Each call is about one namespace of containerd, which [Client.In]
// chooses. What a call makes is kept from containerd's garbage collection if the call is
// made through [Client.Leased], until the lease is deleted or has expired.
//
// # Sources
//
// The services of github.com/containerd/containerd/api, and containerd's documents
// docs/garbage-collection.md, docs/content-flow.md and docs/snapshotters/README.md.
package containerdapi
