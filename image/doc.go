// Package image is what a manifest and a config say, put together and checked:
// which layers there are, in which order, and what each must hash to.
//
// # Promises
//
// Nothing that comes out of this package is foreign text any more: every
// digest matches its algorithm's form before somebody makes a path or a URL of
// it, sizes are not negative, there are as many layers as diffIDs, and no more
// than Docker's overlay2 driver can mount. A document that could be read as
// two different things (CVE-2021-41190) is refused.
//
// # How it works
//
// [ParseManifest] tells an index from a manifest by what it holds.
// [Walk] goes through an index and the indexes in it, which is the only way in which
// fastpull does so: it bounds their depth and their number. A [Tree] fetches what such
// a walk needs, and [Tree.Select] picks one platform. [New] joins a manifest with the
// bytes of its config and computes the chainIDs: C1 is the first diffID, Cn is
// the digest of C(n-1), a space, and the nth diffID.
//
// It follows the OCI image-spec 1.1 (manifest.md, image-index.md, config.md)
// and Docker's image manifest version 2, schema 2.
package image
