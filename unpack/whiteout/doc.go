// Package whiteout has the forms in which the deletions of a layer are kept. A layer says
// which names of the layers below it deletes, and which directories it makes opaque.
//
//   - [Overlay] is that of overlayfs, for a layer that is mounted over those below.
//   - [Inheriting] is that of overlayfs too. Directories that the layer does not name then get
//     the mode and owner that they have in the layers below.
//   - [Deletions] are kept in memory, for a layer that [Merge] moves over a directory, or in
//     which they become the names of a tar ([Deletions.WriteNames]).
package whiteout
