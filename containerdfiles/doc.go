// Package containerdfiles opens the root directory of a containerd that does not run: its
// database, its content store, and the snapshots of overlayfs. It does in there what package
// containerdapi asks a running one to do.
//
// The package promises the following.
//
//   - The files are those of containerd 2, and containerd 1.6 and later start on them: all of
//     them are written by containerd's own packages.
//   - No other program runs, and nothing is mounted. The packages link those that start
//     decompressors, and nothing here calls them.
//   - A root in use is refused, with the process that uses it. While a [Root] is open,
//     containerd waits for it.
//   - A kill leaves a root that containerd starts on. What was made under a lease stays until
//     the lease expires, and the next [Open] finds it. A directory of a snapshot may be left
//     that the snapshotter's database does not name. Open removes it; containerd removes it
//     when it is in the way, and reports an error that once.
//   - Unless [Options.NoSync] is set, each call has its changes on the disk before it returns,
//     but for the files of snapshots.
//
// # Use
//
// [Open] opens a root, and makes it if it is not there. [Root.In] returns the calls for one
// namespace. What is made through [Store.Leased] is kept until the lease is deleted.
//
// # Sources
//
// The plugins of containerd that open these files: plugins/metadata/plugin.go,
// plugins/snapshots/overlay/plugin and plugins/content/local/plugin of
// github.com/containerd/containerd/v2.
package containerdfiles
