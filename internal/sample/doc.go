// Package sample makes container images of real size and real content: from
// directories of the machine that it runs on. The demonstration and the
// benchmark pull such images.
//
// # Promises
//
//   - The same files give the same bytes: entries come in the order of their
//     names, and nothing depends on the time or on the folder that is used.
//   - A layer has what its files have: modes with setuid and sticky bits,
//     owners, times to the second, symlinks, hardlinks, file capabilities.
//     Sockets and devices are left out, and so are other file systems that are
//     mounted in a directory and names that would be whiteouts.
//   - No secrets get into an image: files that not every user may read are left out, even
//     if this process may read them.
//   - The files may change meanwhile. A file that cannot be read is left out. A file that
//     shrinks is filled up with zeros, and one that grows is cut.
//   - Memory does not depend on the size of an image, only on how many entries
//     a layer has (some 100 bytes each).
//
// # How it works
//
// [Build] writes each layer once, to a file that is named after its digest:
// tar (archive/tar, the format of OCI's layer.md), hashed for the diffID, and
// gzip of the standard library at its default level, which is what docker push
// writes. Layers are made at the same time. Numbers that a manifest does not have, such as
// the count of entries, go into labels of the config, where [StatsOf] finds them.
package sample
