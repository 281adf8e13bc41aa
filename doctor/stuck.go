package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// procfs is where this examination looks for processes.
func (e *exam) procfs() procfs { return procfs(e.proc) }

// job is a decompressor or an unpacker at work for an Engine.
type job struct {
	watched
	engine *process
	orphan bool // its Engine is no more
	verdict
}

// mostJobs is how many processes are watched. No Engine has as many at a time.
const mostJobs = 256

// stuck looks for decompressors that make no progress, and for the processes that wait for
// them.
func stuck(ctx context.Context, e *exam) {
	p := e.procfs()
	all, err := p.all()
	if err != nil {
		e.found(Finding{Area: Stuck, What: "processes", Level: Unknown, Text: err.Error()})
		return
	}
	if p.hidden() {
		e.found(Finding{Area: Stuck, What: "processes", Level: Unknown,
			Text: "those of others cannot be seen here (hidepid): run it as root"})
	}
	jobs := jobsOf(all)
	if len(jobs) == 0 {
		e.found(Finding{Area: Stuck, What: "decompressors", Level: OK, Text: "no Engine runs one just now"})
		return
	}
	if len(jobs) > mostJobs {
		e.found(Finding{Area: Stuck, What: "decompressors", Level: Unknown,
			Text: fmt.Sprintf("there are %d, and only the %d that were started first were watched", len(jobs), mostJobs)})
		jobs = jobs[:mostJobs]
	}
	list := make([]*watched, len(jobs))
	for i, j := range jobs {
		list[i] = &j.watched
	}
	watch := cmp.Or(e.watchTime, watchTime)
	p.watch(ctx, list, watch)
	jobs = slices.DeleteFunc(jobs, func(j *job) bool { return j.gone || len(j.samples) == 0 })

	for _, j := range jobs {
		j.verdict = j.judge(watch)
	}
	pairs := pair(jobs)
	well := 0
	for _, j := range jobs {
		if f, bad := between(j, pairs[j]); bad {
			e.found(f)
			continue
		}
		if isUnpacker(j.name()) && slices.ContainsFunc(jobs, func(d *job) bool { return pairs[d] == j && !fine(d.verdict) }) {
			continue // told with the one that it waits for
		}
		if f, bad := e.judgeJob(ctx, all, j, pairs[j]); bad {
			e.found(f)
		} else {
			well++
		}
	}
	if well > 0 {
		e.found(Finding{Area: Stuck, What: "decompressors", Level: OK,
			Text: fmt.Sprintf("%d that Engines run move, or wait for input", well)})
	}
}

// jobsOf finds what works for Engines. Only what an Engine has started itself counts,
// or what such a program has started in turn: whatever runs in containers is below a
// shim, and none of it.
func jobsOf(all map[int]*process) (jobs []*job) {
	for _, x := range all {
		if x.state == 'Z' || x.state == 'X' || !isUnpacker(x.name()) && !isDecompressor(x.name()) {
			continue
		}
		up := x
		for range len(all) { // PIDs that are used again could make a circle
			up = all[up.ppid]
			if up == nil || isShim(up.comm) || isEngine(up.comm) {
				break
			}
		}
		switch {
		case up != nil && isEngine(up.comm):
			jobs = append(jobs, &job{watched: watched{process: x}, engine: up})
		case x.ppid == 1 && calledByEngine(x):
			jobs = append(jobs, &job{watched: watched{process: x}, orphan: true})
		}
	}
	slices.SortFunc(jobs, func(a, b *job) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.pid, b.pid)) })
	return jobs
}

// calledByEngine reports whether a decompressor was called as Engines call it, and hardly
// anybody else.
func calledByEngine(x *process) bool {
	if len(x.args) == 0 {
		return false
	}
	for _, r := range []role{dockerRole, containerdRole, storageRole} {
		for _, c := range r.candidates {
			if x.name() == c.program && slices.Equal(x.args[1:], c.args) {
				return true
			}
		}
	}
	return false
}

// pair finds the unpacker for the output of each decompressor. The bytes go through the Engine,
// so only the time tells: the Engine starts one right after the other.
func pair(jobs []*job) map[*job]*job {
	pairs := make(map[*job]*job)
	taken := make(map[*job]bool)
	for _, d := range slices.Backward(jobs) { // the latest first: each takes the next one
		if isUnpacker(d.name()) || d.orphan {
			continue
		}
		for _, u := range jobs {
			if isUnpacker(u.name()) && !taken[u] && u.engine == d.engine &&
				(u.start > d.start || u.start == d.start && u.pid > d.pid) {
				pairs[d], taken[u] = u, true
				break
			}
		}
	}
	return pairs
}

func fine(v verdict) bool { return v == moving || v == starved || v == blocked || v == queued }

// between makes a finding of an Engine that does not move bytes from a decompressor to
// its unpacker, and says if it is so.
func between(j, unpacker *job) (f Finding, bad bool) {
	if unpacker == nil || j.verdict != blocked || unpacker.verdict != starved {
		return f, false
	}
	return Finding{Area: Stuck, What: j.engine.String(), Level: Warning,
		Facts: map[string]any{"pid": j.pid, "unpacker": unpacker.pid, "engine": j.engine.pid, "verdict": string(j.verdict)},
		Text: fmt.Sprintf("%s has output that nobody takes, and %s waits for input: %s, which is between them, moves nothing; this pull may not end",
			j, unpacker, j.engine),
	}, true
}

// judgeJob makes a finding of what was seen of a process, and says if it is worth one.
func (e *exam) judgeJob(ctx context.Context, all map[int]*process, j, unpacker *job) (f Finding, bad bool) {
	v := j.verdict
	if fine(v) {
		return f, false
	}
	p := e.procfs()
	age := p.age(j.process)
	took, _ := j.still()
	f = Finding{Area: Stuck, What: "a program left behind", Level: Problem, Facts: map[string]any{
		"pid": j.pid, "program": j.name(), "verdict": string(v),
		"seconds": int(age.Seconds()), "cpuSeconds": float64(j.cpu) / hertz,
	}}
	since := fmt.Sprintf("it has stood still for %s while it was watched, runs for %s and has used %.1f s of CPU time", round(took), round(age), float64(j.cpu)/hertz)
	if j.engine != nil {
		f.What, f.Facts["engine"] = j.engine.String(), j.engine.pid
	}
	switch {
	case j.orphan:
		f.Level = Warning
		f.Text = fmt.Sprintf("%s %s: the Engine that started it is gone (%s)", j, v, since)
		f.Fix = []string{fmt.Sprintf("sudo kill -9 %d   # what the Engine left behind", j.pid)}
		return f, true
	case v == unseen:
		f.Level = Unknown
		f.Text = fmt.Sprintf("%s has used no CPU time while it was watched for %s; "+
			"only root may see if it has input: run it as root", j, round(took))
		if errors.Is(ctx.Err(), context.Canceled) {
			f.Text = fmt.Sprintf("%s was not watched to the end", j)
		}
		return f, true
	case v == inKernel:
		f.Level = Warning
		f.Text = fmt.Sprintf("%s waits in the kernel, likely for a disk (%s)", j, since)
	case v == unclear, v == spinning && !ofGzip(j.name()):
		f.Level = Warning
		f.Text = fmt.Sprintf("%s %s (%s)", j, v, since)
	case v == stopped:
		f.Text = fmt.Sprintf("%s was stopped by a signal (%s)", j, since)
		f.Fix = []string{fmt.Sprintf("sudo kill -CONT %d   # let it go on", j.pid)}
	case v == spinning:
		f.Text = fmt.Sprintf("%s keeps a CPU busy, but reads and writes nothing (%s)", j, since)
	case isUnpacker(j.name()):
		f.Text = fmt.Sprintf("%s has input waiting but takes none of it (%s)", j, since)
	default:
		f.Text = fmt.Sprintf("%s has made no progress%s: %s and nothing comes out (%s)",
			j, forAges(j, age), inputOf(j), since)
	}
	e.told(&f, all, j, unpacker)
	if f.Level == Problem && v != stopped && !isUnpacker(j.name()) {
		names := p.pulls(all, j.engine)
		for _, name := range names {
			f.Fix = append(f.Fix, e.ours(j.engine.comm, j.engine)+" "+name)
		}
		if len(names) == 0 {
			f.Fix = []string{e.instead(j.engine.comm, j.engine)}
		}
		at := len(f.Fix)
		if hasStorage(j.engine.comm) {
			at = 0 // the next one may wait for its lock
		}
		f.Fix = slices.Insert(f.Fix, at, fmt.Sprintf("sudo kill %d   # ends the pull: %s", j.pid, clientPrints(j.engine.comm)))
		r, _ := roleOf(j.engine.comm)
		fix, d := e.without(ctx, &engine{role: r, proc: j.engine, parent: dockerOf(all, j.engine)})
		f.Fix, f.DropIn = append(f.Fix, fix...), d
	}
	return f, true
}

// clientPrints tells what the client of an Engine prints when its decompressor is killed.
func clientPrints(engine string) string {
	switch {
	case hasStorage(engine):
		return engine + ` prints "signal: terminated", and no longer has the store locked`
	case engine == "dockerd":
		return `docker prints "failed to register layer", and "unexpected EOF"`
	case engine == "containerd":
		return `its client prints "failed to extract layer", and "signal: terminated"`
	}
	return "its client prints an error"
}

// forAges says for how long nothing moves, where that is known: a program that has
// used hardly any CPU time cannot have moved for long.
func forAges(j *job, age time.Duration) string {
	used := time.Duration(j.cpu) * time.Second / hertz
	if age > time.Minute && used < age/100 {
		return " for nearly all of its " + round(age)
	}
	return ""
}

func inputOf(j *job) string {
	if in := j.samples[len(j.samples)-1].in; in != nil && in.waiting > 0 {
		return fmt.Sprintf("%d bytes of input wait", in.waiting)
	}
	return "all of its input is there"
}

// told adds to a finding which process waits, for which layer, and of which image.
func (e *exam) told(f *Finding, all map[int]*process, j, unpacker *job) {
	if isUnpacker(j.name()) {
		unpacker = j
	}
	end := "this pull will not end"
	if f.Level != Problem {
		end = "this pull may not end"
	}
	waits := ""
	if unpacker != nil {
		l := e.procfs().layerOf(unpacker.process, j.engine)
		f.Facts["unpacker"], f.Facts["layer"] = unpacker.pid, l.dir
		if unpacker != j {
			waits = fmt.Sprintf("%s waits for it", unpacker)
		}
		if l.dir != "" {
			waits = strings.TrimSpace(waits + " with the layer in " + l.dir)
			if l.number > 0 {
				waits += fmt.Sprintf(", number %d of its image", l.number)
				f.Facts["number"] = l.number
			}
			if l.below != "" {
				waits += ", on top of " + l.below
				f.Facts["below"] = l.below
			}
		}
	} else {
		waits = fmt.Sprintf("%s waits for it", j.engine)
	}
	if images := e.procfs().pulls(all, j.engine); len(images) > 0 {
		f.Facts["images"] = images
		waits += " (a client pulls " + strings.Join(images, ", ") + ")"
	}
	f.Text += "; " + waits + ": " + end
}

// round makes a duration short to read.
func round(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}
