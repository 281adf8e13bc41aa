// Package safepath opens the directories that fastpull writes to, so that no other
// user can choose where the bytes go.
//
// fastpull often runs as root, and writes to directories in which other users may create, rename
// and remove files: /tmp, a user's home, a folder of a group. There, each name of a path may
// mean something else a moment later. So this package resolves a path once, name by name. It
// opens each directory on the way, and the kernel follows no symbolic link (O_PATH|O_NOFOLLOW;
// Linux 2.6.39). Files are then named relative to the descriptor of the last directory.
//
// # Rules
//
// Trusted users are root, the user that the process runs as, and, if that is root by
// way of sudo(8), the user that SUDO_UID names, as for Git's safe.directory. All
// others are strangers. A directory is exposed if a stranger owns it or its mode lets
// the group or all others write to it.
//
//  1. A symbolic link is followed if a trusted user owns it, or if its directory is
//     not exposed. It may stand anywhere in the path. A link in an exposed directory
//     must have one name only. This is what the kernel does in sticky directories with
//     fs.protected_symlinks, for all directories and all kernels.
//  2. What a stranger has put into an exposed directory is not replaced: links,
//     files, also those with another name elsewhere, FIFOs, directories.
//  3. Directories of strangers may be on the way, and may hold what is written. They
//     are the directories that were opened, whatever happens to their names.
//
// In a user namespace, all users that it does not map have the same ID. That user owns the root
// directory. It counts as trusted as the owner of directories, but not as the owner of links or
// files.
//
// # Paths
//
// Some work needs a path: mount(2), and code that opens files by their names. [Dir.Path] returns
// the plain path if no stranger can change the way to the directory, and otherwise one by
// /proc/self/fd.
package safepath
