// Package unpack makes files of the plain tar of a layer. Package decode makes that tar of
// the layer's blob, and verifies it.
//
// [Extract] creates, changes and removes nothing outside its root, whatever the tar says.
// That includes names, links, and symlinks that the layer itself brought. It runs no
// program, and ends soon after its context, with all its goroutines. Its memory is bounded,
// whatever the layer is: fixed buffers for each layer, and the names of entries, which a
// [nameset.Budget] bounds for all layers of a run.
//
// # Stability
//
// The promises above and the rules of layers are stable. An exception of today may follow
// Docker or the image-spec later, with an entry in the changelog. The Go interface may
// change with any version.
//
// # How a layer is extracted
//
// Extract reads the tar once. It records headers, padding, and content that becomes no
// file, in the form of tar-split, so that Docker can make the same tar of the files again.
// It creates the entries by *at calls on directory descriptors. Names are created in the
// order of the tar, on the caller's goroutine. Other goroutines write the contents and the
// metadata of files, by descriptors, in batches. So a name that is replaced meanwhile does
// not matter to them.
//
// Package tree resolves the names, and keeps the directories as they should be. Package
// tarsplit writes the record.
//
// After an entry is done, only a hash of its name stays in memory, in 8 to 18 bytes. It tells
// whether Docker could store the layer. Whiteouts and opaque directories are looked up on
// disk.
//
// The layer rules are those of the OCI image-spec (layer.md). Where it leaves room they
// are those of Docker's overlay2 driver (moby's go-archive, diff.go and archive_linux.go).
// The places where fastpull differs on purpose say so.
package unpack
