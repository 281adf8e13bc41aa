package cli

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
)

func newLoad(s Streams) *cobra.Command {
	var f pullFlags
	cmd := &cobra.Command{
		Use:   "load [flags] FILE... [IMAGE...]",
		Short: "Load images from bundles",
		Long: `load puts the images of bundles, or those of them that are named, where pull would put
them. It reads what docker save, podman save and skopeo write as well. FILE may be one of
several parts, or what their names have in common; - is standard input. The first
argument, and each that names a file that is there, is a FILE.

All files are verified before anything is loaded.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			files, names := filesFirst(a)
			return f.fromBundles(cmd, s, files, names)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	f.to.add(fl, "store", "load", "restart-engine", "containerd", "containerd-root", "docker-root", "podman")
	f.to.containerd(fl)
	f.to.staging(fl, s.Err)
	fl.StringVar(&f.platform, "platform", "", onePlatform)
	f.work.add(fl, "load")
	fl.StringVar(&f.to.options.Engine.TempDir, "temp-dir", "", "keep layers on their way to the Engine, and a bundle that is compressed,\nin `DIR` (default: $TMPDIR or /var/tmp)")
	f.output.add(fl, summaryAsJSON)
	return cmd
}

// filesFirst divides arguments into bundles and images. Of a bundle in parts, one is returned.
func filesFirst(a []string) (files, images []string) {
	seen := make(map[string]bool)
	for i, name := range a {
		if i > 0 && name != "-" && !isBundle(name) {
			images = append(images, name)
			continue
		}
		if whole := bundle.Whole(name); !seen[whole] {
			seen[whole] = true
			files = append(files, name)
		}
	}
	return files, images
}

// fromBundles loads bundles as pull pulls.
func (f *pullFlags) fromBundles(cmd *cobra.Command, s Streams, files, names []string) error {
	mode, o, err := f.options(cmd)
	if err != nil {
		return err
	}
	var list []*bundle.Reader
	for _, name := range files {
		r, err := openBundle(cmd.Context(), name, f.to.options.Engine.TempDir, s.In)
		if err != nil {
			return err
		}
		defer r.Close()
		list = append(list, r)
	}
	if o.Source, o.References, err = source.Bundles(list); err != nil {
		return err
	}
	if len(names) > 0 {
		if o.References, err = chosen(o.References, names, strings.Join(files, ", ")); err != nil {
			return err
		}
	}
	if len(o.References) == 0 {
		return fault.New(fault.NotFound, "%s: there is no image in it", strings.Join(files, ", "))
	}
	display := progress.New(progress.Options{Mode: mode, Out: s.Err})
	defer display.Close()
	for _, r := range list {
		err = errors.Join(err, verifyBundle(cmd.Context(), r, display, false))
	}
	if err != nil {
		return err
	}
	sum, err := f.pull(cmd.Context(), display, o)
	return f.print(s, sum, err)
}

// chosen finds the images that were named.
func chosen(have []registry.Reference, names []string, file string) (list []registry.Reference, err error) {
	for _, name := range names {
		ref, err := registry.ParseReference(name)
		if err == nil && !slices.Contains(have, ref) {
			err = fault.WithHint(fault.New(fault.NotFound, "%s is not in %s", ref, file), "fastpull inspect %s lists what is", file)
		}
		if err != nil {
			return nil, meantFile(err, name, file)
		}
		list = append(list, ref)
	}
	return list, nil
}

// meantFile gives the error of an image that was not found another hint, if its name looks like
// that of a file.
func meantFile(err error, name, file string) error {
	if _, serr := os.Stat(name); serr == nil {
		return fault.WithHint(err, "%s is a file or directory; what follows %s names images of it", name, file)
	}
	if strings.HasPrefix(name, "/") || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".tar") {
		return fault.WithHint(err, "there is no file %s, and what follows %s names images of it", name, file)
	}
	return err
}
