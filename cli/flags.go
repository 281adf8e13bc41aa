package cli

import (
	"cmp"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/fastpull/fastpull/decode"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/pull"
)

// notBoth returns an error if both flags were given.
func notBoth(fl *pflag.FlagSet, one, other string) error {
	if fl.Changed(one) && fl.Changed(other) {
		return fault.New(fault.Usage, "--%s and --%s do not go together", one, other)
	}
	return nil
}

// gzipVariable has the default of --gzip.
const gzipVariable = "FASTPULL_GZIP"

// workFlags are the flags of all commands that bring images to a destination.
type workFlags struct {
	keepGoing bool
	jobs      int
	gzip      string
	noSync    bool
}

// add adds the flags. doing is what the command does with images, such as "pull".
func (f *workFlags) add(fl *pflag.FlagSet, doing string) {
	fl.BoolVar(&f.keepGoing, "keep-going", false, doing+" the other images when one fails; the exit code still tells")
	fl.IntVar(&f.jobs, "jobs", 0, "work on `N` layers at a time, with as many cores (default: cores + 1, at least 4)")
	fl.StringVar(&f.gzip, "gzip", cmp.Or(os.Getenv(gzipVariable), string(decode.GzipAuto)), "decode gzip by `DECODER`: auto, serial, parallel (several cores a layer)\nor pgzip; they differ in speed only\n(default: $"+gzipVariable+", or auto)")
	fl.Lookup("gzip").DefValue = ""
	fl.BoolVar(&f.noSync, "no-sync", false, "do not wait until everything is on the disk: after a power failure\nimages can be damaged, as Docker's can")
}

// set checks the flags and puts them into the options of a run.
func (f *workFlags) set(fl *pflag.FlagSet, o *pull.Options) (err error) {
	if fl.Changed("jobs") && f.jobs < 1 {
		return fault.New(fault.Usage, "--jobs %d: at least one layer has to be worked on", f.jobs)
	}
	o.KeepGoing, o.Layers, o.NoSync = f.keepGoing, f.jobs, f.noSync
	if o.Gzip, err = decode.ParseGzip(f.gzip); err != nil && !fl.Changed("gzip") {
		err = fmt.Errorf("$%s: %w", gzipVariable, err)
	}
	return err
}

// outputFlags say what a command prints.
type outputFlags struct {
	progress string
	quiet    bool
	json     bool
}

// add adds the flags. asJSON is the help text of --json.
func (f *outputFlags) add(fl *pflag.FlagSet, asJSON string) {
	fl.StringVar(&f.progress, "progress", "auto", "show progress by `MODE`: auto, tty, plain, json or quiet")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "show no progress but warnings, and print the names of images alone")
	fl.BoolVar(&f.json, "json", false, asJSON)
}

// mode returns how progress is shown.
func (f *outputFlags) mode() (progress.Mode, error) {
	m, err := progress.ParseMode(f.progress)
	if err == nil && f.quiet {
		if m != progress.Auto && m != progress.Quiet {
			return m, fault.New(fault.Usage, "--quiet and --progress=%s exclude each other", m)
		}
		m = progress.Quiet
	}
	return m, err
}

// Help texts that several commands have.
const (
	summaryAsJSON  = "print a summary as JSON instead of a line an image"
	compressedTemp = "keep a bundle that is compressed in `DIR` (default: $TMPDIR or /var/tmp)"
	namesFromFile  = "read image names from `FILE`, one a line, # for comments, - for stdin"
	onePlatform    = "choose `OS/ARCH[/VARIANT]` of a multi-platform image\n(default: the Engine's, or this machine's)"
)
