package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
	"github.com/fastpull/fastpull/unpack"
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
	f.to.add(fl, "store", "load", "containerd")
	f.to.namespace(fl)
	fl.StringVar(&f.platform, "platform", "", "choose `OS/ARCH[/VARIANT]` of a multi-platform image\n(default: the Engine's, or this machine's)")
	fl.BoolVar(&f.keepGoing, "keep-going", false, "load the other images when one fails; the exit code still tells")
	fl.IntVar(&f.jobs, "jobs", 0, "work on `N` layers at a time, with as many cores (default: cores + 1, at least 4)")
	fl.StringVar(&f.gzip, "gzip", cmp.Or(os.Getenv(gzipVariable), string(unpack.GzipAuto)), "decode gzip with auto, serial, parallel or pgzip (default: $"+gzipVariable+", or auto)")
	fl.Lookup("gzip").DefValue = ""
	fl.BoolVar(&f.noSync, "no-sync", false, "do not wait until everything is on the disk")
	fl.StringVar(&f.to.options.Engine.TempDir, "temp-dir", "", "keep layers on their way to the Engine, and a bundle that is compressed,\nin `DIR` (default: $TMPDIR or /var/tmp)")
	fl.StringVar(&f.progress, "progress", "auto", "show progress as auto, tty, plain, json or quiet")
	fl.BoolVar(&f.json, "json", false, "print a summary as JSON instead of a line an image")
	return cmd
}

// openBundle opens a file, or standard input if that is its name.
func openBundle(ctx context.Context, name, tempDir string, in io.Reader) (*bundle.Reader, error) {
	o := bundle.OpenOptions{TempDir: cmp.Or(tempDir, destination.TempDir())}
	if name != "-" {
		return bundle.Open(ctx, name, o)
	}
	return await(ctx, func() (*bundle.Reader, error) { return bundle.OpenStream(ctx, in, o) })
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

// verifyBundle verifies a bundle, and shows how far it is.
func verifyBundle(ctx context.Context, r *bundle.Reader, display *progress.Display, diffIDs bool) error {
	task := display.Task("verify "+r.Name(), r.Size())
	task.Phase(progress.Verifying)
	err := r.Verify(ctx, bundle.VerifyOptions{DiffIDs: diffIDs, Done: task.Add})
	if err != nil {
		task.Phase(progress.Failed)
		var all []error
		for _, one := range split(err) {
			all = append(all, fmt.Errorf("%s: %w", r.Name(), one))
		}
		return errors.Join(all...)
	}
	task.Phase(progress.Done)
	return nil
}

func images(n int) string {
	if n == 1 {
		return "1 image"
	}
	return fmt.Sprintf("%d images", n)
}

func newVerify(s Streams) *cobra.Command {
	var tempDir string
	var f storeVerify
	cmd := &cobra.Command{
		Use:   "verify [flags] FILE | [IMAGE...]",
		Short: "Check every byte of a bundle or a store",
		Long: `verify reads a bundle, or its parts, and checks every digest and every layer's diffID.
Of a bundle that fastpull has written every other byte is checked as well.

With --store, or where there is no file of that name, it checks a store, or images in
it: configs, names, and that the tar of each layer, made again from its files, is what
it was, with owners, modes and all else that a tar says of files.`,
		Args: args(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, a []string) error {
			if len(a) != 1 || cmd.Flags().Changed("store") || a[0] != "-" && !isBundle(a[0]) {
				return f.run(cmd, s, a)
			}
			if f.repair {
				return fault.WithHint(fault.New(fault.Usage, "--repair is for a store, and %s is a file", a[0]), "name the store with --store")
			}
			return verifyFile(cmd.Context(), s, a[0], tempDir, f.mode, f.json)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&tempDir, "temp-dir", "", "keep a bundle that is compressed in `DIR` (default: $TMPDIR or /var/tmp)")
	f.add(cmd)
	fl.StringVar(&f.mode, "progress", "auto", "show progress as auto, tty, plain, json or quiet")
	fl.BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

// verifyFile checks a bundle.
func verifyFile(ctx context.Context, s Streams, name, tempDir, mode string, asJSON bool) error {
	m, err := progress.ParseMode(mode)
	if err != nil {
		return err
	}
	r, err := openBundle(ctx, name, tempDir, s.In)
	if err != nil {
		return err
	}
	defer r.Close()
	display := progress.New(progress.Options{Mode: m, Out: s.Err})
	err = verifyBundle(ctx, r, display, true)
	if err == nil {
		_, _, err = source.Bundle(r) // names that load does not take are damage as well
	}
	display.Close()
	if asJSON {
		return errors.Join(err, printJSON(s.Out, verified{r.Name(), err == nil, len(r.Entries()), r.Blobs(), r.Size()}))
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "%s: %s, %d blobs, %s: all as it should be\n", printable(r.Name()), images(len(r.Entries())), r.Blobs(), progress.Bytes(r.Size()))
	return err
}

// verified is what verify prints.
type verified struct {
	Bundle string `json:"bundle"`
	OK     bool   `json:"ok"`
	Images int    `json:"images"`
	Blobs  int    `json:"blobs"`
	Size   int64  `json:"size"`
}

// isBundle tells if what inspect is given is a file.
func isBundle(name string) bool {
	if st, err := os.Stat(name); err == nil && st.Mode().IsRegular() {
		return true
	}
	_, err := os.Stat(bundle.PartName(name, 1))
	return !errors.Is(err, fs.ErrNotExist) && err == nil
}

// inspectBundle prints what a bundle has.
func inspectBundle(ctx context.Context, s Streams, name string, asJSON bool) error {
	r, err := openBundle(ctx, name, "", s.In)
	if err != nil {
		return err
	}
	defer r.Close()
	l, err := r.List()
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(s.Out, l)
	}
	t := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "Bundle:\t%s\n", printable(l.Bundle))
	fmt.Fprintf(t, "Size:\t%s\n", progress.Bytes(l.Size))
	if !l.Created.IsZero() {
		fmt.Fprintf(t, "Created:\t%s\n", l.Created.UTC().Format(time.RFC3339))
	}
	if l.Index != "" {
		fmt.Fprintf(t, "Index:\t%s\n", l.Index)
	}
	if l.Since != "" {
		fmt.Fprintf(t, "Since:\t%s\n", l.Since)
	}
	for _, i := range l.Images {
		fmt.Fprintf(t, "\nImage:\t%s\n", printable(cmp.Or(i.Name, i.Source, "(no name)")))
		if _, d, ok := strings.Cut(i.Source, "@"); ok {
			fmt.Fprintf(t, "From:\t%s\n", printable(d))
		}
		fmt.Fprintf(t, "Platform:\t%s\nManifest:\t%s\nID:\t%s\n", printable(i.Platform), i.Manifest, i.ImageID)
		for n, layer := range i.Layers {
			left := ""
			if layer.Left {
				left = ", left out"
			}
			fmt.Fprintf(t, "Layer %d:\t%s  %s%s\n", n+1, layer.Digest, progress.Bytes(layer.Size), left)
		}
	}
	for _, f := range l.Referrers {
		fmt.Fprintf(t, "\nReferrer:\t%s\nSubject:\t%s\nType:\t%s\nSize:\t%s\n", f.Manifest, f.Subject, printable(f.ArtifactType), progress.Bytes(f.Size))
		if f.Tag != "" {
			fmt.Fprintf(t, "Tag:\t%s\n", f.Tag)
		}
	}
	return t.Flush()
}
