// Package daemon speaks with a running Docker Engine: what it has, and how to
// give it an image.
//
// It promises
//
//   - to need nothing of the Engine but its API, of version 1.40 (Docker 19.03)
//     or later, so that the Engine may be on another host;
//   - never to wait without an end: a question has a deadline, and a load ends
//     when the Engine shows no sign of life for [Options.StallTimeout];
//   - that the error a load ends with is the Engine's own, where it gave one,
//     and not the broken pipe that follows from it;
//   - that cancelling the context ends every call within a second.
//
// # How a load goes
//
// [Engine.Load] posts a docker-archive to /images/load as a chunked stream and
// reads the JSON messages that come back, both at once. The Engine first takes
// the whole archive and writes it to a temporary folder; then it reads
// manifest.json and unpacks layer by layer, with a message every 100 ms or so;
// then it sets the tags.
//
// One goroutine reads the archive into a few blocks ahead of the transport,
// which has two effects: the source and the Engine work at the same time, and
// the time spent waiting for one is told from the time spent waiting for the
// other. Only the latter counts as a stall.
//
// # Layers that an Engine has
//
// For each layer of the image's config the Engine looks its chain up among its
// own layers, and opens the file that manifest.json names for it only when it
// has none. So a layer of [Engine.Chains] need not be in the archive: its place
// in "Layers" must be there, since there have to be as many as diffIDs, and the
// name in it must be one that stays inside of the archive, but no file need
// bear it. That holds for 19.03 to 28 with the overlay2 driver. An Engine that
// keeps images in containerd's store needs every layer each time; Chains is
// empty for it.
//
// Layers go uncompressed. An Engine pipes compressed ones through the unpigz
// or igzip of its host, where there is one, and waits for ever if that hangs.
//
// Sources: the Engine's API reference, moby's image/tarexport/load.go and
// pkg/progress, and the OCI image specification's section on chain IDs.
package daemon
