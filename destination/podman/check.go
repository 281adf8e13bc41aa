//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/storage"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/checkup"
)

// what is the thing that Check finds something about.
const what = "Podman's store (--podman)"

// Check finds out if images can be put into Podman's store. It changes nothing: it opens no
// store, for the library would make one. Without a store and without a podman it is no
// problem that it cannot.
func Check(ctx context.Context, _ *destination.Machine, root string) []checkup.Finding {
	f := checkup.Finding{What: what, Level: checkup.OK}
	var o storage.StoreOptions
	err := checkup.Try(ctx, func() (err error) {
		o, err = options(root)
		return err
	})
	switch {
	case fault.KindOf(err) == fault.Denied:
		f.Text = checkup.Plain(err)
	case err != nil && root == "" && !installed():
		f.Text = "there is none that fastpull could write: " + checkup.Plain(err)
	case err != nil:
		f.Level, f.Text = checkup.Warning, checkup.Plain(err)
	default:
		if f, err = checkup.Within(ctx, checkup.FileSystemTime, func() (checkup.Finding, error) { return describe(ctx, o), nil }); err != nil {
			f = checkup.Finding{What: what, Level: checkup.Warning, Text: fmt.Sprintf("%s or an additional image store of it: %v", o.GraphRoot, err)}
		}
	}
	return []checkup.Finding{f}
}

// describe says of a store that fastpull can write what is configured.
func describe(ctx context.Context, o storage.StoreOptions) checkup.Finding {
	f := checkup.Finding{What: what, Level: checkup.OK}
	f.Text = fmt.Sprintf("%s takes images, by the storage driver %s; none was put there for a test", o.GraphRoot, o.GraphDriverName)
	if _, err := os.Stat(filepath.Join(imagesOf(o), driver+"-images")); errors.Is(err, os.ErrNotExist) {
		f.Text = fmt.Sprintf("%s is not there, and could be made", o.GraphRoot)
	} else if used, err := Used(ctx); err == nil && used == o.GraphRoot {
		f.Text += "; where neither a Docker Engine nor containerd answers, a pull without a destination goes there"
	}
	var there []string
	for _, dir := range additional(o) {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			f.Level = checkup.Problem
			f.Text += fmt.Sprintf("; the additional image store %s of storage.conf is not there, and Podman does not start without it", dir)
			continue
		}
		there = append(there, dir)
	}
	if len(there) > 0 {
		f.Text += "; images that these additional image stores have are not pulled: " + strings.Join(there, ", ")
	}
	return f
}

// additional returns the additional image stores: they are read, and not written.
func additional(o storage.StoreOptions) (list []string) {
	for _, option := range o.GraphDriverOptions {
		if name, value := optionOf(option); name == "imagestore" || name == "additionalimagestore" {
			list = append(list, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
		}
	}
	return list
}
