package doctor

import (
	"cmp"
	"context"
	"runtime"
	"time"

	"github.com/fastpull/fastpull/registry"
)

// Options say what to look at.
type Options struct {
	// Version is fastpull's, for the report.
	Version string
	// Image is what to ask a registry for: an image, or a host alone. "" asks none.
	Image string
	// Hosts say how registries are reached.
	Hosts registry.Options
	// Store is the store that a pull would go to, if no Engine answers.
	Store string
	// Found is told of each finding as it is made, one at a time. Nil is fine.
	Found func(Finding)

	proc      string        // where the processes are; "" is /proc
	watchTime time.Duration // how long processes are watched; 0 is some seconds
}

// exam is an examination under way.
type exam struct {
	Options
	report *Report
}

// found notes a finding.
func (e *exam) found(f Finding) {
	e.report.Findings = append(e.report.Findings, f)
	if e.Found != nil {
		e.Found(f)
	}
}

// Run looks at everything. The error is that of a context that ended; the report has
// what was found until then.
func Run(ctx context.Context, o Options) (*Report, error) {
	o.proc = cmp.Or(o.proc, "/proc")
	e := &exam{Options: o, report: &Report{
		Version: o.Version, Platform: runtime.GOOS + "/" + runtime.GOARCH, Findings: []Finding{},
	}}
	for _, look := range []func(context.Context, *exam){
		processes, host, engines, places, registries,
	} {
		if ctx.Err() != nil {
			return e.report, context.Cause(ctx)
		}
		look(ctx, e)
	}
	return e.report, context.Cause(ctx)
}
