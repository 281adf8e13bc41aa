// Package whiteout records the deletions of a layer in different forms. A layer deletes names of
// the layers below it, and makes directories opaque.
//
//   - [Overlay] is that of overlayfs, for a layer that is mounted over those below.
//   - [Inheriting] is that of overlayfs too. Directories that the layer does not name then get
//     the mode and owner that they have in the layers below.
//   - [Deletions] are kept in memory, for a layer that [Merge] moves over a directory, or in
//     which they become the names of a tar ([Deletions.WriteNames]).
package whiteout
