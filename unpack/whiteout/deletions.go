package whiteout

import (
	"path"

	"github.com/fastpull/fastpull/fault"
)

// Deletions keeps the deletions of a layer in memory, and which of its directories have no
// entry of their own. It is for a layer that [Merge] moves into a plain directory, or that
// keeps them as names. Its zero value is ready to use.
type Deletions struct {
	names   []string            // paths to delete
	opaques []string            // directories to empty
	implied map[string]struct{} // directories without an entry
	bytes   int                 // of all of them
}

// maxDeletions bounds the memory for these paths.
const maxDeletions = 64 << 20

// take takes room for a path.
func (w *Deletions) take(p string) error {
	if w.bytes += len(p) + 16; w.bytes > maxDeletions {
		return fault.New(fault.Corrupt, "the paths that the layer deletes, and the directories that it does not name, do not fit into %d bytes", maxDeletions)
	}
	return nil
}

var _ Form = (*Deletions)(nil)

// Whiteout implements [Form].
func (w *Deletions) Whiteout(_ int, dir, name string, _, _ int) error {
	p := path.Join(dir, name)
	w.names = append(w.names, p)
	return w.take(p)
}

// Opaque implements [Form].
func (w *Deletions) Opaque(_ int, dir string) error {
	w.opaques = append(w.opaques, dir)
	return w.take(dir)
}

// IsOpaque and Unwhiteout implement [Form]. There is nothing to take back: Merge empties the
// directory before it deletes names in it.
func (w *Deletions) IsOpaque(int) bool    { return false }
func (w *Deletions) Unwhiteout(int) error { return nil }

// Implied implements [Form].
func (w *Deletions) Implied(dir string) error {
	if w.implied == nil {
		w.implied = make(map[string]struct{})
	}
	w.implied[dir] = struct{}{}
	return w.take(dir)
}

// Named implements [Form].
func (w *Deletions) Named(dir string) { delete(w.implied, dir) }
