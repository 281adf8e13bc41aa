package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/fetch"
	"github.com/fastpull/fastpull/internal/privilege"
)

// partialDir returns the directory for partial blobs: beside the content store, so that they
// can be moved there. It is "" if this process does not see the content store.
func (d *daemon) partialDir() string {
	for _, dir := range d.contentDirs() {
		return fetch.PartialDir(filepath.Dir(dir))
	}
	return ""
}

// PartialDir returns the directory where pulls into a containerd keep partial blobs. containerd
// has to run, and this process to see its content store.
func PartialDir(ctx context.Context, o Options) (dir string, err error) {
	c, err := connect(ctx, o)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	d := &daemon{env: &destination.Env{Rights: privilege.Current()}, c: c}
	if d.plugins, err = c.Plugins(ctx); err != nil {
		return "", err
	}
	if dir = d.partialDir(); dir == "" {
		err = fault.WithHint(fault.New(fault.Failed, "this process does not see the content store of containerd at %s", c.Address()),
			"run fastpull where that store can be seen, as its owner; other pulls keep partial blobs in the user's cache, and fastpull prune without a flag removes those")
	}
	return dir, err
}

// contentDirs returns the directories that may be the content store's for this process, the
// most likely one first. Those of another user namespace are not among them: containerd
// could not read files that this process makes there.
func (d *daemon) contentDirs() (list []string) {
	if d.plugins.Content.Root == "" {
		return nil
	}
	for _, root := range slices.Backward(roots(d.c.Address())) {
		dir := root + d.plugins.Content.Root
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && d.owns(st) {
			list = append(list, dir)
		}
	}
	return list
}

// findContent returns the directory of the content store, "" if it is out of reach: an ingest
// of this run has to appear in it.
func (l *looker) findContent(ctx context.Context) (string, error) {
	dirs := l.contentDirs()
	if len(dirs) == 0 {
		return "", nil
	}
	ref := l.lease + "-look"
	w, err := l.c.WriteBlob(ctx, ref, digest.FromString(ref), 0)
	if err != nil {
		return "", fmt.Errorf("write into the content store of containerd: %w", err)
	}
	defer func() {
		_ = w.Close()
		ctx, cancel := l.after(ctx)
		defer cancel()
		_ = l.c.AbortWrite(ctx, ref) // or the lease does
	}()
	for _, dir := range dirs {
		names, _ := filepath.Glob(filepath.Join(dir, "ingest", "*", "ref")) // the pattern is sound
		for _, name := range names {
			// The file has the namespace and a number before the ref.
			if text, err := os.ReadFile(name); err == nil && strings.HasSuffix(string(text), "/"+ref) {
				return dir, nil
			}
		}
	}
	return "", nil
}
