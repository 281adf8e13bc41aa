package cli

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination"
)

// openBundle opens a file, or standard input if that is its name.
func openBundle(ctx context.Context, name, tempDir string, in io.Reader) (*bundle.Reader, error) {
	o := bundle.OpenOptions{TempDir: cmp.Or(tempDir, destination.TempDir())}
	if name != "-" {
		return bundle.Open(ctx, name, o)
	}
	return await(ctx, func() (*bundle.Reader, error) { return bundle.OpenStream(ctx, in, o) })
}

// isBundle reports whether a bundle has that name, in one file or in parts.
func isBundle(name string) bool {
	if st, err := os.Stat(name); err == nil && st.Mode().IsRegular() {
		return true
	}
	_, err := os.Stat(bundle.PartName(name, 1))
	return !errors.Is(err, fs.ErrNotExist) && err == nil
}
