package cli

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/doctor"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

func newDoctor(s Streams) *cobra.Command {
	var store, file string
	var asJSON, writeDropIn bool
	var connect connectFlags
	cmd := &cobra.Command{
		Use:   "doctor [flags] [IMAGE|HOST]",
		Short: "Find out if this host is able to pull, and what is stuck",
		Long: `doctor looks for decompressors that hang, tries the ones that Engines would run, and
looks at the host, its Engines and, if one is named, at a registry. It changes nothing but by --write-dropin.
The exit code is 0 if there is no problem.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			o := doctor.Options{Version: versionString(), Image: first(a), Hosts: connect.options(), Store: store}
			var area doctor.Area
			if !asJSON {
				o.Found = func(f doctor.Finding) {
					if f.Area != area {
						area = f.Area
						fmt.Fprintf(s.Out, "%s\n", area)
					}
					printFinding(s.Out, f)
				}
			}
			report, err := doctor.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if file != "" {
				if err := writeReport(file, report); err != nil {
					return fmt.Errorf("write the report: %w", err)
				}
			}
			if asJSON {
				err = printJSON(s.Out, report)
			} else {
				printFixes(s.Out, report)
			}
			if writeDropIn {
				err = errors.Join(err, writeDropIns(s.Err, "/", report))
			}
			if n := report.Count(doctor.Problem); n > 0 {
				err = errors.Join(err, fault.New(fault.Failed, "doctor: problems found: %d", n))
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&store, "store", defaultStore(), "look at the store at `DIR`, too")
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	fl.StringVar(&file, "report", "", "write what was found to `FILE`, too, as text without secrets")
	fl.BoolVar(&writeDropIn, "write-dropin", false, "have Engines whose decompressor is broken do without, from their next restart on:\nwrite a drop-in for their systemd services")
	connect.add(fl)
	return cmd
}

// printFinding prints a line of the table.
func printFinding(w io.Writer, f doctor.Finding) {
	fmt.Fprintf(w, "  %-7s  %s: %s\n", f.Level, printable(f.What), printable(f.Text))
}

// printFixes prints what can be done about it all.
func printFixes(w io.Writer, r *doctor.Report) {
	for _, fix := range r.Fixes() {
		fmt.Fprintln(w)
		for _, line := range fix {
			fmt.Fprintf(w, "    %s\n", printable(line))
		}
	}
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
		fmt.Fprintf(w, "%s %s; nothing was restarted. It counts after\n    %s\n", verb, printable(d.Path), printable(d.Restart()))
	}
	return err
}

// writeReport writes the report as text, whole or not at all.
func writeReport(name string, r *doctor.Report) error {
	f, err := tmpfile.New(filepath.Dir(name), 0o644)
	if err != nil {
		return err
	}
	fmt.Fprintf(f, "fastpull %s on %s\n", r.Version, r.Platform)
	var area doctor.Area
	for _, x := range r.Findings {
		if x.Area != area {
			area = x.Area
			fmt.Fprintf(f, "\n%s\n", area)
		}
		printFinding(f, x)
	}
	printFixes(f, r)
	return errors.Join(f.Publish(name), f.Close())
}
