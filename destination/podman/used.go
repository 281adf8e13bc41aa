//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"go.podman.io/storage"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/internal/checkup"
)

// users are the programs that have their images in the store.
var users = []string{"podman", "crio", "buildah"}

// Used returns the graph root of the store that Podman itself would use, if images have been
// there: one of the programs that use the store is in the PATH, and the store has a list of
// images. The library writes that list with the first image, and not before. Otherwise Used
// returns "". The error says why fastpull cannot write the store. Nothing is opened or made.
func Used(ctx context.Context) (root string, err error) {
	if os.Geteuid() != 0 && os.Getenv("XDG_RUNTIME_DIR") == "" {
		return "", nil // the library would make a directory in its place, and the store cannot be written
	}
	return checkup.Within(ctx, checkup.FileSystemTime, func() (string, error) {
		if !installed() {
			return "", nil
		}
		o, err := located(Default)
		if err != nil {
			return "", err
		}
		_, err = os.Stat(filepath.Join(imagesOf(o), o.GraphDriverName+"-images", "images.json"))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", nil
		case err != nil:
			return "", destination.ExplainWrite(err)
		}
		if err := entitled(); err != nil {
			return o.GraphRoot, err
		}
		return o.GraphRoot, writable(&o)
	})
}

// installed reports whether a program that uses the store is in the PATH.
func installed() bool {
	return slices.ContainsFunc(users, func(name string) bool {
		_, err := exec.LookPath(name)
		return err == nil
	})
}

// imagesOf returns the directory of the images: storage.conf can name another one than the
// graph root.
func imagesOf(o storage.StoreOptions) string { return cmp.Or(o.ImageStore, o.GraphRoot) }
