// Package daemon asks a running Docker Engine what it has, and gives it images.
//
// The package promises the following.
//
//   - It needs only the Engine's API, of version 1.40 (Docker 19.03) or later. The Engine
//     may be on another host.
//   - No call waits for ever. A question has a deadline. A load ends when the Engine shows
//     no sign of life for [Options.StallTimeout].
//   - The error of a load is the Engine's own, if the Engine gave one, and not the broken
//     pipe that follows from it.
//   - A call ends within a second of its context, except to remove what it has created.
//
// # Loads
//
// [Engine.Load] posts an archive to /images/load as a chunked stream, and reads the JSON
// messages of the answer at the same time. One goroutine reads the archive into a few blocks
// ahead of the transport. So the source and the Engine work at the same time, and the time
// spent waiting for the Engine is told from the time spent waiting for the source. Only the
// first counts as a stall.
//
// The messages are read to the end of the stream. An error message fails the load, and so
// does a line of text that reports a failure as if it were progress. A load without an
// error still proves nothing. The caller asks for the image afterwards: [Engine.Verify] and
// [Engine.VerifyName] for a graph driver, [Engine.Stored] for containerd's store, and as
// the last resort [Engine.TryContainer].
//
// Layers are sent uncompressed, or are already unpacked when their compressed blobs come.
// An Engine pipes compressed layers through unpigz or igzip, if its host has one, and waits
// for ever if that hangs.
//
// # Graph drivers
//
// The Engine writes the whole docker-archive to a temporary folder, reads manifest.json,
// unpacks layer after layer with a message every 100 ms or so, and sets the tags. For each
// layer of the config it looks up the chainID. It opens the layer's file only if it has no
// such layer. So a layer of [Inventory].Chains need not be in the archive. "Layers" in
// manifest.json still has an entry for it, because there have to be as many as diffIDs. The
// file that the entry names must be inside of the archive's folder, and need not exist. That
// holds for 19.03 to 29 with the overlay2 driver.
//
// [Engine.Import] posts a plain tar to /images/create, for docker import. The Engine registers
// it as a layer without a parent while it arrives, and forgets the layer if the connection
// breaks off before the end.
//
// # Containerd's store
//
// The Engine imports an OCI layout: it stores all blobs in containerd's content store,
// creates the images of index.json, and unpacks those that are for its platform and are
// not unpacked. It sends no message before all of that is done. A manifest may name blobs
// that are not in the archive. The Engine needs a layer's blob only if there is no
// snapshot of the layer's chainID. Snapshots stay as long as there is a config for which
// they were unpacked. If the topmost snapshot of an image was there already, the image's
// config does not keep it: when the image that brought it is removed, the Engine removes
// the snapshots, and unpacks them anew from the blobs for the next container.
//
// From API 1.48 (Docker 28) on, the Engine tells for each manifest of an image whether all
// its blobs are there, and how much room its snapshots take; see [Engine.TellsManifests].
// Room of 0 bytes means that there is no snapshot, or that all layers are empty.
//
// Docker's own archive format is not for this store: for a layer in it the Engine may
// choose a compressed blob of the same diffID that it has from elsewhere.
//
// Sources: the Engine's API reference; moby's image/tarexport/load.go, daemon/images/image_import.go, pkg/progress, and
// daemon/containerd/image_exporter.go, image_list.go and image_manifest.go; containerd's
// client/import.go and client/image.go; the OCI image-spec, "Layer ChainID".
package daemon
