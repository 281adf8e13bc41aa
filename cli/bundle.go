package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination/archive"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// leastPart is the smallest part of a bundle: less is a mistake in the unit.
const leastPart = 1 << 20

// bundleFlags are the flags of bundle.
type bundleFlags struct {
	pull      pullFlags // those that it shares with pull
	layers    string
	platforms []string
	split     size
	since     string
	referrers bool
}

func newBundle(s Streams) *cobra.Command {
	var f bundleFlags
	cmd := &cobra.Command{
		Use:   "bundle -o FILE [flags] IMAGE...",
		Short: "Write images to one file, to carry them",
		Long: `bundle fetches images and writes them to one tar that docker load, podman load,
ctr image import, skopeo and crane read. The same images give the same bytes. FILE.json, beside it, lists what it has.

A FILE that ends in .gz, .tgz, .zst or .tzst is compressed as a whole.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, images []string) error {
			return f.run(cmd, s, images)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	p := &f.pull
	p.to.add(fl, "output")
	fl.Lookup("output").Usage = "write the bundle to `FILE`"
	fl.StringVarP(&p.list, "file", "f", "", namesFromFile)
	fl.StringVar(&f.layers, "layers", string(bundle.Plain), "have layers as `FORM`: plain (no host decompresses anything to load them),\nkeep (the registry's bytes and digests), gzip or zstd (compressed anew)")
	fl.StringSliceVar(&f.platforms, "platform", nil, "take `OS/ARCH[/VARIANT],...` of multi-platform images, or all\n(default: this machine's; Docker finds the first that is named)")
	fl.StringVar(&f.since, "since", "", "leave out the layers that the bundle `FILE` has; load that bundle before this one")
	fl.BoolVar(&f.referrers, "referrers", false, "take along what refers to the images, such as signatures and SBOMs;\nneeds --layers=keep")
	fl.Var(&f.split, "split", "make parts of `SIZE` each: FILE.part001, ... (units: k, M, G; KiB, MiB, GiB)")
	p.work.add(fl, "take")
	p.connect.add(fl)
	p.limits.add(fl)
	p.output.add(fl, summaryAsJSON)
	return cmd
}

func (f *bundleFlags) run(cmd *cobra.Command, s Streams, names []string) error {
	if _, given := f.pull.to.value("output"); !given {
		return fault.WithHint(fault.New(fault.Usage, "no file is named to write the bundle to"), "fastpull bundle -o images.tar IMAGE...")
	}
	o := archive.Options{Split: int64(f.split), Referrers: f.referrers, List: true}
	var err error
	if o.Layers, err = bundle.ParseForm(f.layers); err != nil {
		return fmt.Errorf("--layers: %w", err)
	}
	if cmd.Flags().Changed("split") && f.split < leastPart {
		return fault.New(fault.Usage, "--split %s: a part has to be 1MiB at least", &f.split)
	}
	for _, name := range f.platforms {
		if name = strings.TrimSpace(name); name == "all" {
			o.All = true
			continue
		}
		p, err := image.ParsePlatform(name)
		if err != nil {
			return err
		}
		o.Platforms = append(o.Platforms, p)
	}
	if o.All {
		o.Platforms = nil
	} else if len(o.Platforms) > 0 {
		f.pull.wanted = &o.Platforms[0]
	}
	if cmd.Flags().Changed("platform") && !o.All && len(o.Platforms) == 0 {
		return fault.New(fault.Usage, "--platform is empty")
	}
	if f.since != "" {
		old, err := openBundle(cmd.Context(), f.since, "", s.In)
		if err != nil {
			return fmt.Errorf("--since: %w", err)
		}
		defer old.Close()
		if old.Index() == "" {
			return fault.WithHint(fault.New(fault.Usage, "--since: %s is no bundle: it has no index.json", f.since), "name one that fastpull bundle has made")
		}
		o.Since = old
	}
	f.pull.to.options.Archive = o
	return f.pull.run(cmd, s, names)
}
