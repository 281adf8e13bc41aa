// Package tree resolves the names of a layer's tar inside a root directory, so that nothing
// outside of the root can be reached, whatever symlinks the layer brought.
//
// A [Tree] is the root, and a [Dir] a directory in it, open as a descriptor. Callers create,
// change and remove things by *at calls on it. Directories are resolved with openat2(2)
// where only directories are on the way. Elsewhere they are resolved one component at a
// time with O_NOFOLLOW, and symlinks by this package. So no path can leave the root on any
// kernel. Between entries descriptors are kept, never strings (CVE-2025-47290).
//
// Each entry that is made in a directory changes its times. Without root's rights the process
// may have to change its mode to get in. A Dir has the mode and the times that it should have
// again as soon as it is closed. So nothing is remembered of directories that are not open.
package tree
