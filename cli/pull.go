package cli

import (
	"bufio"
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
	"github.com/fastpull/fastpull/internal/homedir"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/pull"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
)

// pullFlags are the flags of pull.
type pullFlags struct {
	to       destinationFlags
	list     string
	allTags  bool
	filter   string // of tags
	platform string
	work     workFlags
	output   outputFlags
	dryRun   bool
	report   reportFlags
	watch    watchFlags
	connect  connectFlags
	limits   limitFlags
	wanted   *ocispec.Platform // as platform, parsed
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
	f.to.add(fl, "store", "load", "restart-engine", "containerd", "containerd-root", "docker-root", "podman", "output", "rootfs", "null")
	f.to.containerd(fl)
	f.to.staging(fl, s.Err)
	fl.StringVarP(&f.list, "file", "f", "", namesFromFile)
	fl.BoolVar(&f.allTags, "all-tags", false, "pull all tags of the repositories that are named")
	fl.StringVar(&f.filter, "filter", "", "with --all-tags: only tags that `PATTERN` fits, with * and ? as in a shell")
	fl.StringVar(&f.platform, "platform", "", onePlatform)
	f.work.add(fl, "pull")
	fl.StringVar(&f.to.options.Engine.TempDir, "temp-dir", "", "keep layers on their way to the Engine in `DIR` (default: $TMPDIR or /var/tmp)")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would be fetched, from where, and fetch nothing")
	f.report.add(fl)
	f.watch.add(fl)
	f.connect.add(fl)
	f.limits.add(fl)
	f.output.add(fl, summaryAsJSON)
	return cmd
}

// options checks the flags and makes the options of a run of them, but for what is
// to be pulled and from where.
func (f *pullFlags) options(cmd *cobra.Command) (mode progress.Mode, o pull.Options, err error) {
	if mode, err = f.output.mode(); err != nil {
		return mode, o, err
	}
	if mode == progress.JSON {
		f.to.options.Restart.Output = noteLines{cmd.ErrOrStderr()}
	}
	o = pull.Options{DryRun: f.dryRun, Platforms: f.to.options.Archive.Platforms, AllPlatforms: f.to.options.Archive.All}
	if o.Open, err = f.to.opener(); err != nil {
		return mode, o, err
	}
	if file, _ := f.to.value("output"); file == "-" {
		return mode, o, fault.WithHint(fault.New(fault.Usage, "-o -: an archive is not written to standard output, since it has to be complete before it is seen"),
			"name a file")
	}
	if err := f.work.set(cmd.Flags(), &o); err != nil {
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
	switch {
	case f.filter != "" && !f.allTags:
		return fault.New(fault.Usage, "--filter is for --all-tags")
	case f.allTags && f.list != "":
		return fault.New(fault.Usage, "--all-tags and --file exclude each other")
	}
	if err := f.watch.check(cmd, f); err != nil {
		return err
	}
	if f.report.to, err = f.report.open(s, &f.output); err != nil {
		return err
	}
	if f.watch.on {
		// The loop reports errors, and goes on: those of the command line come first.
		if err := f.limits.set(new(registry.Options)); err != nil {
			return err
		}
		if _, err := parseReferences(names); err != nil {
			return err
		}
		return f.follow(cmd.Context(), s, mode, o, names)
	}
	begun := time.Now()
	sum, err := f.once(cmd.Context(), s, mode, o, names)
	return errors.Join(f.print(s, sum, err), f.report.append(cmd.Context(), begun, sum, err))
}

// once pulls the images of the arguments and of the list. The summary is nil if these cannot be
// read.
func (f *pullFlags) once(ctx context.Context, s Streams, mode progress.Mode, o pull.Options, names []string) (sum *pull.Summary, err error) {
	if !f.allTags {
		if o.References, err = f.references(ctx, s.In, names); err != nil {
			return nil, err
		}
	}
	return f.fromRegistries(ctx, s, mode, o, func(client *registry.Client) ([]registry.Reference, error) {
		if f.allTags {
			return allTags(ctx, client, names, f.filter)
		}
		return o.References, nil
	})
}

// fromRegistries pulls the images that find finds. The summary is nil if there is no client, or
// find has failed.
func (f *pullFlags) fromRegistries(ctx context.Context, s Streams, mode progress.Mode, o pull.Options, find func(*registry.Client) ([]registry.Reference, error)) (*pull.Summary, error) {
	hosts := f.connect.options()
	if err := f.limits.set(&hosts); err != nil {
		return nil, err
	}
	o.NoResume, o.CacheDir = f.limits.noResume, defaultCache()
	display := progress.New(progress.Options{Mode: mode, Out: s.Err})
	defer display.Close()
	hosts.Note = func(words string) { display.Note("%s", words) }
	client, err := registry.New(hosts)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if o.References, err = find(client); err != nil {
		return nil, err
	}
	o.Source = source.Registries(client)
	return f.pull(ctx, display, o)
}

// pull pulls, and shows what is going on.
func (f *pullFlags) pull(ctx context.Context, display *progress.Display, o pull.Options) (*pull.Summary, error) {
	o.Progress = display
	o.Chosen = func(name, note string) {
		if note != "" {
			display.Note("into %s (%s)", name, note)
		}
	}
	sum, err := pull.Run(ctx, o)
	display.Close()
	return sum, withRest(sum, err)
}

// print prints what became of a run that ended with err. sum may be nil.
func (f *pullFlags) print(s Streams, sum *pull.Summary, err error) error {
	switch {
	case sum == nil:
		return err
	case f.report.toOutput():
		return err // the report's line says it all
	case f.output.json:
		return errors.Join(err, printJSON(s.Out, sum))
	case f.dryRun:
		return errors.Join(err, printPlan(s.Out, sum))
	}
	for _, r := range sum.Images {
		if r.Status != pull.Failed && r.Reference != "" {
			line := resultLine(r, sum.Destination)
			if f.output.quiet {
				line = nameOf(r)
			}
			if _, perr := fmt.Fprintln(s.Out, line); perr != nil {
				return errors.Join(err, perr)
			}
		}
	}
	return err
}

// withRest adds to the error of a run how much the next run can continue with.
func withRest(sum *pull.Summary, err error) error {
	if err == nil {
		return nil
	}
	return &unfinished{error: err, kept: sum.BytesKept, stays: sum.Stays}
}

// nameOf returns the name of an image with its tag and digest.
func nameOf(r pull.Result) string {
	name, _, _ := strings.Cut(r.Reference, "@")
	return fmt.Sprintf("%s@%s", name, r.Digest)
}

// resultLine is what is printed of an image: where it is now, and how long that
// took.
func resultLine(r pull.Result, where string) string {
	line := fmt.Sprintf("%s → %s", nameOf(r), text.Printable(where))
	if r.Status == pull.Exists {
		return line + ", is there already, " + progress.Duration(r.Took)
	}
	if r.BytesFetched == 0 {
		return line + ", all layers were there already, " + progress.Duration(r.Took)
	}
	return fmt.Sprintf("%s, %s in %s, %s", line,
		progress.Bytes(r.BytesFetched), progress.Duration(r.Took), progress.Rate(r.BytesFetched, max(r.Took, time.Millisecond)))
}

// errNoImages is the error of arguments and a list that name nothing.
var errNoImages = fault.WithHint(fault.New(fault.Usage, "no image is named"), "fastpull host:5000/name:tag, or -f FILE with a list; fastpull --help tells more")

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
		return nil, errNoImages
	}
	return parseReferences(names)
}

// parseReferences returns the references, each once.
func parseReferences(names []string) (refs []registry.Reference, err error) {
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

// storeVariable names the store, for all commands and as the destination of a pull.
const storeVariable = "FASTPULL_STORE"

// rootStore is the default store of root.
const rootStore = "/var/lib/fastpull"

// defaultStore is the store of commands that name none: that of the variable, or else the
// one where images go when no Engine answers. Root of a user namespace
// that may not write to /var/lib gets the store of a user.
func defaultStore() string {
	if dir := os.Getenv(storeVariable); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 && unix.Access("/var/lib", unix.W_OK) != unix.EACCES {
		return rootStore
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "fastpull")
	}
	home, err := homedir.Find()
	if err != nil {
		return "fastpull-store" // in the working directory: there is no better place
	}
	return filepath.Join(home, ".local/share/fastpull")
}
