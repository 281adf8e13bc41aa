// Package image parses and checks manifests, indexes and configs. It says which layers an
// image has, in which order, and which digests they must have.
//
// For most callers: [NewTree] begins with what a reference names, [Tree.Select] chooses a
// platform, and [Tree.Image] returns the [Image]. [ParseManifest] and [New] are the parts of
// that for callers who have the documents.
//
// # Promises
//
// What this package returns was checked, so that callers can make paths and URLs of it:
//
//   - every digest has the form of its algorithm,
//   - no size is negative,
//   - an image has as many layers as diffIDs,
//   - a document that can be read in two ways (CVE-2021-41190) was refused.
//
// [CheckDocker] tells if Docker accepts an image. Errors about content are of kind
// [fault.Corrupt]. The depth of nested indexes, the number of their entries and the bytes
// that a Tree fetches are bounded.
//
// # Stability
//
// The rules are those of the specifications below, and are stable. The Go interface may
// change with any version.
//
// # How it works
//
// [ParseManifest] tells an index from a manifest by its content. [Walk] visits the entries
// of an index and of the indexes in it; everything in fastpull that does so uses Walk. A
// [Tree] fetches the documents for such a walk. [New] joins a manifest and the bytes of its
// config, and computes the chainIDs: C1 is the first diffID, and Cn is the digest of C(n-1),
// a space, and the nth diffID.
//
// # Sources
//
// The OCI image-spec 1.1 (manifest.md, image-index.md, config.md), and Docker's image
// manifest version 2, schema 2.
package image
