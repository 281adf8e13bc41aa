package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/pull"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
	"github.com/fastpull/fastpull/unpack"
)

// gzipVariable has the default of --gzip.
const gzipVariable = "FASTPULL_GZIP"

// pullFlags are the flags of pull.
type pullFlags struct {
	to        destinationFlags
	list      string
	keepGoing bool
	platform  string
	jobs      int
	gzip      string
	progress  string
	json      bool
	noSync    bool
	dryRun    bool
	connect   connectFlags
	limits    limitFlags
	wanted    *ocispec.Platform // as platform, parsed
}

func newPull(s Streams) *cobra.Command {
	var f pullFlags
	cmd := &cobra.Command{
		Short: "Pull images",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, images []string) error {
			return f.run(cmd, s, images)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	f.to.add(fl, "store", "load", "containerd", "output", "rootfs", "null")
	f.to.namespace(fl)
	fl.StringVarP(&f.list, "file", "f", "", "read image names from `FILE`, one a line, # for comments, - for stdin")
	fl.BoolVar(&f.keepGoing, "keep-going", false, "pull the other images when one fails; the exit code still tells")
	fl.StringVar(&f.platform, "platform", "", "choose `OS/ARCH[/VARIANT]` of a multi-platform image\n(default: the Engine's, or this machine's)")
	fl.IntVar(&f.jobs, "jobs", 0, "work on `N` layers at a time, with as many cores (default: cores + 1, at least 4)")
	fl.StringVar(&f.gzip, "gzip", cmp.Or(os.Getenv(gzipVariable), string(unpack.GzipAuto)), "decode gzip with auto, serial, parallel (several cores a layer)\nor pgzip; they differ in speed only\n(default: $"+gzipVariable+", or auto)")
	fl.Lookup("gzip").DefValue = ""
	fl.BoolVar(&f.noSync, "no-sync", false, "do not wait until everything is on the disk: after a power failure\nimages can be damaged, as Docker's can")
	fl.StringVar(&f.to.options.Engine.TempDir, "temp-dir", "", "keep layers on their way to the Engine in `DIR` (default: $TMPDIR or /var/tmp)")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would be fetched, from where, and fetch nothing")
	f.connect.add(fl)
	f.limits.add(fl)
	fl.StringVar(&f.progress, "progress", "auto", "show progress as auto, tty, plain, json or quiet")
	fl.BoolVar(&f.json, "json", false, "print a summary as JSON instead of a line an image")
	return cmd
}

// options checks the flags and makes the options of a run of them, but for what is
// to be pulled and from where.
func (f *pullFlags) options(cmd *cobra.Command) (mode progress.Mode, o pull.Options, err error) {
	// An empty value is most often a variable that was not set, and must not mean
	// another destination than the one that was asked for.
	for _, name := range []string{"store", "containerd", "namespace", "output", "rootfs", "file", "platform", "temp-dir"} {
		if fl := cmd.Flags().Lookup(name); fl != nil && fl.Changed && fl.Value.String() == "" {
			return mode, o, fault.New(fault.Usage, "--%s is empty", name)
		}
	}
	if mode, err = progress.ParseMode(f.progress); err != nil {
		return mode, o, err
	}
	o = pull.Options{KeepGoing: f.keepGoing, Layers: f.jobs, NoSync: f.noSync, DryRun: f.dryRun, Platforms: f.to.options.Archive.Platforms, AllPlatforms: f.to.options.Archive.All}
	if o.Open, err = f.to.opener(); err != nil {
		return mode, o, err
	}
	if file, _ := f.to.value("output"); file == "-" {
		return mode, o, fault.WithHint(fault.New(fault.Usage, "-o -: an archive is not written to standard output, since it has to be complete before it is seen"),
			"name a file")
	}
	if cmd.Flags().Changed("jobs") && f.jobs < 1 {
		return mode, o, fault.New(fault.Usage, "--jobs %d: at least one layer has to be worked on", f.jobs)
	}
	if o.Gzip, err = unpack.ParseGzip(f.gzip); err != nil {
		if !cmd.Flags().Changed("gzip") {
			err = fmt.Errorf("$%s: %w", gzipVariable, err)
		}
		return mode, o, err
	}
	o.Platform = f.wanted
	if f.platform != "" {
		p, err := image.ParsePlatform(f.platform)
		if err != nil {
			return mode, o, err
		}
		o.Platform = &p
	}
	return mode, o, nil
}

// run pulls the images of the arguments and of the list.
func (f *pullFlags) run(cmd *cobra.Command, s Streams, names []string) error {
	mode, o, err := f.options(cmd)
	if err != nil {
		return err
	}
	if o.References, err = f.references(cmd.Context(), s.In, names); err != nil {
		return err
	}
	hosts := f.connect.options()
	if err := f.limits.set(&hosts); err != nil {
		return err
	}
	o.NoResume, o.CacheDir = f.limits.noResume, defaultCache()
	client, err := registry.New(hosts)
	if err != nil {
		return err
	}
	defer client.Close()
	o.Source = source.Registries(client)
	display := progress.New(progress.Options{Mode: mode, Out: s.Err})
	defer display.Close()
	return f.pull(cmd, s, display, o)
}

// pull pulls, and prints what became of it.
func (f *pullFlags) pull(cmd *cobra.Command, s Streams, display *progress.Display, o pull.Options) error {
	o.Progress = display
	o.Chosen = func(name, note string) {
		if note != "" {
			display.Note("into %s (%s)", name, note)
		}
	}
	sum, err := pull.Run(cmd.Context(), o)
	display.Close()
	if f.json {
		return errors.Join(err, printJSON(s.Out, sum))
	}
	if f.dryRun {
		return errors.Join(err, printPlan(s.Out, sum))
	}
	for _, r := range sum.Images {
		if r.Status != pull.Failed && r.Reference != "" {
			if _, perr := fmt.Fprintln(s.Out, resultLine(r, sum.Destination)); perr != nil {
				return errors.Join(err, perr)
			}
		}
	}
	return err
}

// resultLine is what is printed of an image: where it is now, and how long that
// took.
func resultLine(r pull.Result, where string) string {
	name, _, _ := strings.Cut(r.Reference, "@")
	line := fmt.Sprintf("%s@%s → %s", name, r.Digest, printable(where))
	if r.Status == pull.Exists {
		return line + ", is there already, " + progress.Duration(r.Took)
	}
	if r.BytesFetched == 0 {
		return line + ", all layers were there already, " + progress.Duration(r.Took)
	}
	return fmt.Sprintf("%s, %s in %s, %s", line,
		progress.Bytes(r.BytesFetched), progress.Duration(r.Took), progress.Rate(r.BytesFetched, max(r.Took, time.Millisecond)))
}

// references parses the names of the arguments and of the list, each once.
func (f *pullFlags) references(ctx context.Context, stdin io.Reader, names []string) ([]registry.Reference, error) {
	if f.list != "" {
		more, err := readList(ctx, f.list, stdin)
		if err != nil {
			return nil, err
		}
		names = append(names, more...)
	}
	if len(names) == 0 {
		return nil, fault.WithHint(fault.New(fault.Usage, "no image is named"), "fastpull host:5000/name:tag, or -f FILE with a list; fastpull --help tells more")
	}
	var refs []registry.Reference
	for _, name := range names {
		ref, err := registry.ParseReference(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	return refs, nil
}

func readList(ctx context.Context, name string, stdin io.Reader) ([]string, error) {
	if name != "-" {
		f, err := os.Open(name)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return nil, fault.New(fault.Denied, "read the list of images: %w", err)
		case err != nil:
			return nil, fault.New(fault.NotFound, "read the list of images: %w", err)
		}
		defer f.Close()
		return parseList(name, f)
	}
	return await(ctx, func() ([]string, error) { return parseList("from standard input", stdin) })
}

func parseList(name string, in io.Reader) ([]string, error) {
	var names []string
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line != "" {
			names = append(names, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the list of images %s: %w", name, err)
	}
	return names, nil
}

// defaultStore is where images go when no Engine answers and nothing was said.
// Root of a user namespace, who may not write to /var/lib, is one of the users.
func defaultStore() string {
	if os.Geteuid() == 0 && unix.Access("/var/lib", unix.W_OK) != unix.EACCES {
		return "/var/lib/fastpull"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "fastpull")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "fastpull-store" // in the working directory: there is no better place
	}
	return filepath.Join(home, ".local/share/fastpull")
}
