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
	// Image is what to ask a registry for: an image, or a host alone, which has a
	// dot, a port or a slash at its end. "" asks none.
	Image string
	// Hosts say how registries are reached.
	Hosts registry.Options
	// Destinations has the values of the flags that name destinations, by their names in the
	// table of all destinations. Nil names none.
	Destinations map[string]string
	// Command is what runs this examination again, a word an item, for a way out that
	// needs another user. Nil is fastpull doctor, with the image.
	Command []string
	// Found is called with each finding as it is made, one at a time. Nil is fine.
	Found func(Finding)

	proc      string        // where the processes are; "" is /proc
	watchTime time.Duration // how long processes are watched; 0 is some seconds
}

// exam is an examination under way.
type exam struct {
	Options
	report *Report
	target target
	engine engineLook
	silent map[int]bool    // dockerds, by PID, that do not answer
	ended  <-chan struct{} // closed when the caller no longer waits; nil is never

	program string // how a shell runs fastpull; "" is by its name
}

// found notes a finding, unless the examination was ended. After the end, whatever was being
// examined seems not to answer.
func (e *exam) found(f Finding) {
	select {
	case <-e.ended:
	default:
		e.note(f)
	}
}

// note notes a finding that was made in time.
func (e *exam) note(f Finding) {
	f.Fix = e.pasteable(f.Fix)
	f = f.withoutSecrets()
	e.report.Findings = append(e.report.Findings, f)
	if e.Found != nil {
		e.Found(f)
	}
}

// Run makes the whole examination. If ctx ends, it returns the cause and an incomplete report,
// which says so. The error is of kind fault.Usage if the name of the image is invalid.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	o.proc = cmp.Or(o.proc, "/proc")
	e := &exam{Options: o, report: &Report{
		Version: o.Version, Platform: runtime.GOOS + "/" + runtime.GOARCH, Time: time.Now(), Findings: []Finding{},
	}}
	if e.target, err = parseTarget(o.Image); err != nil {
		return e.report, err
	}
	defer e.engine.close()
	e.ended = ctx.Done()
	if len(e.Command) > 0 {
		e.program = program(ctx, e.Command[0])
	}
	defer func() { e.report.Incomplete = err != nil }()
	for _, look := range []func(context.Context, *exam){
		processes, host, engines, destinations, registries,
	} {
		if ctx.Err() != nil {
			return e.report, context.Cause(ctx)
		}
		look(ctx, e)
	}
	return e.report, context.Cause(ctx)
}
