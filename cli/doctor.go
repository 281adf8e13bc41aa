package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/doctor"
	"github.com/fastpull/fastpull/doctor/report"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/safepath"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

func newDoctor(s Streams) *cobra.Command {
	var file string
	var destinations func() map[string]string
	var asJSON, writeDropIn bool
	var connect connectFlags
	cmd := &cobra.Command{
		Use:   "doctor [flags] [IMAGE|HOST]",
		Short: "Find out if this host is able to pull, and what is stuck",
		Long: `doctor looks for decompressors that hang, tries the ones that Engines would run, and
looks at the host, its Engines and, if one is named, at a registry. It changes
nothing but by --write-dropin. The exit code is 0 only if there is no problem.

A host alone is written with its port, or with a slash at its end.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			o := doctor.Options{Version: versionString(), Image: first(a), Hosts: connect.options(), Destinations: destinations(), Command: commandAgain(cmd, a)}
			var place *safepath.Place
			if file != "" {
				var err error
				if place, err = reportPlace(file); err != nil {
					return fmt.Errorf("write the report %s: %w", file, err)
				}
				defer place.Close()
			}
			table := report.Table{W: s.Out, Width: report.WidthOf(s.Out)}
			if !asJSON {
				o.Found = table.Print
			}
			found, err := doctor.Run(cmd.Context(), o)
			if err != nil && !found.Incomplete {
				return err
			}
			if place != nil {
				if werr := writeReport(place, found); werr != nil {
					werr = fmt.Errorf("write the report %s: %w", file, werr)
					if err == nil {
						return werr
					}
					printError(s.Err, false, werr) // beside the interruption
				}
			}
			if err != nil {
				if asJSON {
					err = errors.Join(err, printJSON(s.Out, found))
				}
				return err
			}
			if asJSON {
				err = printJSON(s.Out, found)
			} else {
				table.End(found)
				err = table.Err()
			}
			if writeDropIn {
				err = errors.Join(err, writeDropIns(s.Err, "/", found))
			}
			if n := found.Count(doctor.Problem); n > 0 {
				err = errors.Join(err, fault.New(fault.Failed, "doctor: problems found: %d", n))
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	destinations = checkFlags(fl)
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	fl.StringVar(&file, "report", "", "write what was found to `FILE`, too, as text without secrets")
	fl.BoolVar(&writeDropIn, "write-dropin", false, "have Engines whose decompressor is broken do without, from their next restart on:\nwrite a drop-in for their systemd services")
	connect.add(fl)
	return cmd
}

// checkFlags adds the flags that name destinations to check, and returns a function that reads
// their values.
func checkFlags(fl *pflag.FlagSet) (values func() map[string]string) {
	list := map[string]*string{
		"store":           fl.String("store", defaultStore(), "look at the store at `DIR`, too"),
		"containerd-root": fl.String("containerd-root", "", "look at `DIR`, the root of a containerd that does not run, too"),
		"docker-root":     fl.String("docker-root", "", "look at `DIR`, the data-root of a Docker 29 that does not run, too"),
	}
	return func() map[string]string {
		destinations := make(map[string]string)
		for name, dir := range list {
			destinations[name] = *dir
		}
		return destinations
	}
}

// commandAgain returns the command line that has the same effect, whatever the PATH is
// of who runs it.
func commandAgain(cmd *cobra.Command, args []string) []string {
	program, err := os.Executable()
	if err != nil {
		program = "fastpull"
	}
	list := append([]string{program}, strings.Fields(cmd.CommandPath())[1:]...)
	cmd.Flags().Visit(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		if many, ok := f.Value.(pflag.SliceValue); ok {
			values = many.GetSlice()
		}
		for _, v := range values {
			if v != "" && f.NoOptDefVal == v {
				list = append(list, "--"+f.Name)
			} else {
				list = append(list, "--"+f.Name+"="+v)
			}
		}
	})
	return append(list, args...)
}

// writeDropIns writes what the report has for systemd, and says what is left to do.
func writeDropIns(w io.Writer, root string, r *doctor.Report) (err error) {
	list := r.DropIns()
	if len(list) == 0 {
		fmt.Fprintln(w, "no drop-in was written: no systemd service has a decompressor that is broken")
	}
	for _, d := range list {
		written, e := doctor.WriteDropIn(root, d)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		verb := "wrote"
		if !written {
			verb = "is there already:"
		}
		fmt.Fprintf(w, "%s %s; nothing was restarted. It counts after\n    %s\n", verb, text.Printable(d.Path), text.Printable(d.Restart()))
	}
	return err
}

// reportPlace returns the place of a report, before the work for it begins.
func reportPlace(name string) (*safepath.Place, error) {
	place, err := safepath.Find(name)
	if err != nil {
		return nil, err
	}
	if place.Type != 0 && place.Type != unix.S_IFREG {
		err = fault.WithHint(fault.New(fault.Usage, "it is there, and is not a file"), "name a file, which is replaced; without --report the report goes to standard output")
		return nil, errors.Join(err, place.Close())
	}
	return place, nil
}

// writeReport writes the report as text, whole or not at all.
func writeReport(place *safepath.Place, r *doctor.Report) error {
	f, err := tmpfile.New(place.Dir, 0o644)
	if err != nil {
		return err
	}
	defer f.Close() // removes it, if it was not published
	if err := report.Write(f, r); err != nil {
		return err
	}
	return f.Publish(place.Base)
}
