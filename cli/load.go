package cli

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
)

func newLoad(s Streams) *cobra.Command {
	var f pullFlags
	cmd := &cobra.Command{
		Use:   "load [flags] FILE [IMAGE...]",
		Short: "Load images from a bundle",
		Long: `load puts the images of a bundle, or those of them that are named, where pull would
put them. It reads what docker save, podman save and skopeo write as well. FILE may be
the first of several parts, or what their names have in common; - is standard input.

The whole bundle is verified before anything is loaded.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return f.fromBundle(cmd, s, a[0], a[1:])
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	f.to.add(fl, "store", "load", "restart-engine", "containerd")
	f.to.containerd(fl)
	f.to.staging(fl, s.Err)
	fl.StringVar(&f.platform, "platform", "", onePlatform)
	f.work.add(fl, "load")
	fl.StringVar(&f.to.options.Engine.TempDir, "temp-dir", "", "keep layers on their way to the Engine, and a bundle that is compressed,\nin `DIR` (default: $TMPDIR or /var/tmp)")
	f.output.add(fl, summaryAsJSON)
	return cmd
}

// fromBundle loads a bundle as pull pulls.
func (f *pullFlags) fromBundle(cmd *cobra.Command, s Streams, name string, names []string) error {
	mode, o, err := f.options(cmd)
	if err != nil {
		return err
	}
	r, err := openBundle(cmd.Context(), name, f.to.options.Engine.TempDir, s.In)
	if err != nil {
		return err
	}
	defer r.Close()
	if o.Source, o.References, err = source.Bundle(r); err != nil {
		return err
	}
	if len(names) > 0 {
		if o.References, err = chosen(o.References, names, r.Name()); err != nil {
			return err
		}
	}
	if len(o.References) == 0 {
		return fault.New(fault.NotFound, "%s: there is no image in it", r.Name())
	}
	display := progress.New(progress.Options{Mode: mode, Out: s.Err})
	defer display.Close()
	if err := verifyBundle(cmd.Context(), r, display, false); err != nil {
		return err
	}
	return f.pull(cmd, s, display, o)
}

// chosen finds the images that were named.
func chosen(have []registry.Reference, names []string, file string) (list []registry.Reference, err error) {
	for _, name := range names {
		ref, err := registry.ParseReference(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(have, ref) {
			return nil, fault.WithHint(fault.New(fault.NotFound, "%s is not in %s", ref, file), "fastpull inspect %s lists what is", file)
		}
		list = append(list, ref)
	}
	return list, nil
}
