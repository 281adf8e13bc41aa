// Package fetch brings the layers of a run from their source to verified bytes.
//
// # Promises
//
// A layer's blob is downloaded and hashed once, whether its destination wants the plain
// tar ([Fetcher.Plain]), the blob as the registry has it ([Fetcher.Blob]), or both
// ([Fetcher.Both]). What the destination does with the bytes counts only after the call
// has returned nil: then the size and the digest of the blob were right, and the diffID
// of the plain tar where it was decoded.
//
// A blob that arrives damaged is downloaded once more. Blobs of a run that ends early
// stay on disk, and the next run continues with them ([PartialBlobs]).
//
// # How it works
//
// Every layer takes the same way:
//
//	slot ─→ open the blob ─→ wait for its turn ─→ read, hash, decode ─→ close ─→ judge
//
// The slots of a run bound how many layers are worked on at a time. A slot is held
// during the download and the decoding. It is released while a blob that is complete in
// its file waits for its turn. Small blobs are downloaded into memory before their slot,
// so that the round trips to the registry are those of one layer.
//
// The package knows registries and decoders. It knows no destination and no engine.
package fetch
