package cli

import (
	"context"
	"time"

	"github.com/spf13/pflag"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/fleet"
	"github.com/fastpull/fastpull/pull"
)

// reportFlags say where a run is reported for machines.
type reportFlags struct {
	file string
	to   fleet.Report
}

func (f *reportFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.file, "report", "", "append a line in JSON about this run to `FILE`; - is standard output, for that line alone")
}

// open checks the flag, and that a line can be appended.
func (f *reportFlags) open(s Streams, output *outputFlags) (r fleet.Report, err error) {
	if f.toOutput() {
		if output.json {
			return r, fault.New(fault.Usage, "--report - and --json exclude each other: both print to standard output")
		}
		return fleet.Report{Out: s.Out}, nil
	}
	r.Name = f.file
	return r, r.Check()
}

// toOutput reports whether the report goes to standard output.
func (f *reportFlags) toOutput() bool { return f.file == "-" }

// append reports a run that ended with err.
func (f *reportFlags) append(ctx context.Context, begun time.Time, sum *pull.Summary, err error) error {
	return f.to.Append(fleet.NewLine(begun, sum, err, ctx.Err() != nil))
}
