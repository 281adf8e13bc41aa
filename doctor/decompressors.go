package doctor

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fastpull/fastpull/internal/privilege"
)

// engine is an Engine, and how it looks for a decompressor.
type engine struct {
	role
	proc   *process // nil for a program that runs only when it is called
	parent *process // the dockerd that it belongs to, nil if it does not
	root   root     // "" is ours
	env    map[string]string
	guess  string // why the environment is only what it usually is, "" if it is known
	exe    string // its own program, a path of ours
	uid    int    // whose it is; 0 is root's, or not known
}

func (g *engine) String() string {
	if g.proc == nil {
		return g.kind
	}
	return fmt.Sprintf("%s %d", g.proc.comm, g.proc.pid)
}

// restarts returns the process whose restart gives the Engine another environment: a
// containerd has that of the dockerd that started it.
func (g *engine) restarts() *process {
	if g.parent != nil {
		return g.parent
	}
	return g.proc
}

// Limits of an examination of Engines. Their files may be on a disk that does not answer, so
// each look has a deadline, and is abandoned some time later. The number of Engines is
// bounded: any user that may start programs can give a program an Engine's name.
const (
	processesTime = 2 * time.Minute
	processesMore = 5 * time.Second
	mostEngines   = 32
)

// processes looks for processes that are stuck and for decompressors that would get stuck. Both
// examinations wait, so they run at the same time. Their findings are reported one after the
// other.
func processes(ctx context.Context, e *exam) {
	later := e.aside(ctx, Decompressors, decompressors)
	e.aside(ctx, Stuck, stuck)()
	later()
}

// aside begins to look at something and returns a function that waits for the end of it,
// with the findings. A look that hangs is left alone, as within does.
func (e *exam) aside(ctx context.Context, area Area, look func(context.Context, *exam)) (wait func()) {
	ctx, cancel := context.WithTimeout(ctx, processesTime)
	other := &exam{Options: e.Options, report: &Report{}, ended: e.ended}
	findings, over := make(chan Finding), make(chan struct{})
	var kept []Finding // until they are waited for
	other.Found = func(f Finding) {
		select {
		case findings <- f:
		case <-over:
		}
	}
	collected := make(chan struct{})
	go func() {
		defer close(findings)
		look(ctx, other)
	}()
	go func() {
		defer close(collected)
		defer cancel()
		defer close(over)
		var patience <-chan time.Time
		ended := ctx.Done()
		for {
			select {
			case f, more := <-findings:
				if !more {
					return
				}
				kept = append(kept, f)
			case <-ended:
				ended, patience = nil, time.After(processesMore)
			case <-patience:
				select {
				case <-e.ended: // which is why
					return
				default:
				}
				kept = append(kept, Finding{Area: area, What: "processes", Level: Unknown,
					Text: "something of theirs does not answer, likely a disk: not all could be looked at"})
				return
			}
		}
	}()
	return func() {
		<-collected
		for _, f := range kept {
			e.note(f)
		}
	}
}

// decompressors tries the programs that the Engines here would run.
func decompressors(ctx context.Context, e *exam) {
	all, err := e.procfs().all()
	if err != nil {
		e.found(Finding{Area: Decompressors, What: "Engines", Level: Unknown, Text: err.Error()})
	}
	list := e.enginesOf(all)
	if len(list) == 0 {
		e.found(Finding{Area: Decompressors, What: "Engines", Level: OK, Text: "none runs here, and no podman is in the PATH"})
	}
	tried := make(map[string]tried)
	for i, g := range list {
		if ctx.Err() != nil || i == mostEngines {
			e.found(Finding{Area: Decompressors, What: "Engines", Level: Unknown,
				Text: fmt.Sprintf("%d more were not looked at, there are so many or they take so long", len(list)-i)})
			return
		}
		e.found(e.decompressor(ctx, g, tried))
	}
}

// enginesOf lists the Engines that run, and those that a user would start.
func (e *exam) enginesOf(all map[int]*process) (list []*engine) {
	p := e.procfs()
	for _, x := range all {
		r, ok := roleOf(x.comm)
		if !ok || len(x.args) == 0 || x.state == 'Z' || x.state == 'X' {
			continue
		}
		g := &engine{role: r, proc: x, parent: dockerOf(all, x), exe: p.file(x.pid, "exe")}
		var st syscall.Stat_t
		if syscall.Stat(p.file(x.pid, ""), &st) == nil {
			g.uid = int(st.Uid)
		}
		var err error
		if g.env, err = p.environ(x.pid); err != nil {
			if _, gone := p.again(x); gone != nil {
				continue
			}
			g.env = map[string]string{"PATH": usualPath}
			g.guess = "its environment may not be read; with the usual PATH it"
			g.exe, _ = root("/").find(x.comm, usualPath)
		} else if dir := p.file(x.pid, "root"); !sameRoot(p, x.pid) {
			g.root = root(dir)
		}
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *engine) int { return cmp.Compare(a.proc.pid, b.proc.pid) })
	for _, name := range []string{"podman", "buildah"} {
		file, ok := root("/").find(name, os.Getenv("PATH"))
		if r, _ := roleOf(name); ok {
			list = append(list, &engine{role: r, env: map[string]string{"PATH": os.Getenv("PATH")}, exe: file})
		}
	}
	return list
}

// sameRoot reports whether a process sees the files that we see.
func sameRoot(p procfs, pid int) bool {
	theirs, err1 := os.Stat(p.file(pid, "root"))
	ours, err2 := os.Stat("/")
	if err1 != nil || err2 != nil || !os.SameFile(theirs, ours) {
		return false
	}
	a, err1 := os.Readlink(p.file(pid, "ns/mnt"))
	b, err2 := os.Readlink("/proc/self/ns/mnt")
	return err1 == nil && err2 == nil && a == b
}

// choose returns the program that an Engine would run, found as the Engine finds it, or "".
// note says why it runs none, or names a setting without effect.
func (g *engine) choose() (c candidate, program, note string) {
	var why, void []string
	for _, c := range g.candidates {
		if !g.knows(cmp.Or(c.disable, c.program)) {
			continue // a version from before or after it did
		}
		if v := g.env[c.disable]; c.disable != "" && v != "" {
			if off, err := strconv.ParseBool(v); err != nil {
				void = append(void, fmt.Sprintf("%s=%s counts for nothing, as it is neither true nor false", c.disable, v))
			} else if off {
				why = append(why, fmt.Sprintf("%s=%s is in its environment", c.disable, v))
				continue
			}
		}
		if program, ok := cmp.Or(g.root, "/").find(c.program, g.env["PATH"]); ok {
			return c, program, strings.Join(void, ", ")
		}
		why = append(why, fmt.Sprintf("no %s is in its PATH", c.program))
	}
	if why == nil {
		why = []string{"this version runs no other program for that"}
	}
	return candidate{}, "", strings.Join(append(void, why...), ", ")
}

// programSize is how much of an Engine's program is looked at: they have some 100 MB.
const programSize = 512 << 20

// knows reports whether an Engine's program has a word in it. Versions differ in what
// they run, and none of them says so.
func (g *engine) knows(word string) bool {
	f, err := openRegular(g.exe)
	if err != nil {
		return true
	}
	defer f.Close()
	buf, keep := make([]byte, 1<<20), 0
	for in := io.LimitReader(f, programSize); ; {
		n, err := io.ReadFull(in, buf[keep:])
		if bytes.Contains(buf[:keep+n], []byte(word)) {
			return true
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return false
		}
		if err != nil {
			return true
		}
		keep = copy(buf, buf[len(buf)-len(word):])
	}
}

// tried is what is known of a program.
type tried struct {
	result
	owner
}

// try runs a program as an Engine would, once for all Engines that would run the same.
func (e *exam) try(ctx context.Context, g *engine, program string, args []string, all map[string]tried) tried {
	s := &sandbox{root: g.root, uid: g.uid}
	key := program[strings.LastIndexByte(program, '/'):] + fmt.Sprint(args)
	for _, name := range []string{"PATH", "PIGZ", "GZIP", "LD_LIBRARY_PATH", "LD_PRELOAD"} {
		if v, ok := g.env[name]; ok {
			s.env = append(s.env, name+"="+v)
			if name != "PATH" {
				key += " " + v
			}
		}
	}
	key += fmt.Sprint(" ", s.user())
	if g.root != "" && (!isRoot() || !privilege.Current().Has(privilege.SysAdmin)) {
		return tried{result: result{outcome: notTried, detail: "it is in another root, where only root may go"}}
	}
	file := cmp.Or(g.root, "/").path(program)
	st, err := os.Stat(file)
	if err != nil {
		return tried{result: result{outcome: notTried, detail: err.Error()}}
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		key += fmt.Sprint(" ", sys.Dev, sys.Ino)
	}
	if got, ok := all[key]; ok {
		return got
	}
	whose := make(chan owner, 1)
	go func() { whose <- s.owner(ctx, program) }()
	got := tried{result: s.trial(ctx, program, args)}
	got.owner = <-whose
	all[key] = got
	return got
}

// decompressor makes the finding about an Engine.
func (e *exam) decompressor(ctx context.Context, g *engine, all map[string]tried) Finding {
	f := Finding{Area: Decompressors, What: g.String(), Level: OK, Facts: map[string]any{"engine": g.kind}}
	if g.proc != nil {
		f.Facts["pid"] = g.proc.pid
	}
	docker := g.restarts()
	stores, asked := false, false // if images are in containerd's store
	if docker != nil && isDockerd(docker.comm) {
		if d, err := e.dial(ctx, docker); err == nil {
			stores, asked = d.Containerd(), true
			d.Close()
		}
	}
	if g.parent != nil && asked && !stores {
		f.Text = fmt.Sprintf("belongs to dockerd %d, which unpacks layers itself", g.parent.pid)
		return f
	}
	c, program, note := g.choose()
	if program == "" {
		f.Text = "decompresses gzip layers by itself: " + note
		if g.guess != "" {
			f.Level, f.Text = Unknown, fmt.Sprintf("%s %s (run it as root)", g.guess, f.Text)
		}
		return f
	}
	r := e.try(ctx, g, program, c.args, all)
	f.Facts["program"], f.Facts["args"], f.Facts["outcome"] = program, c.args, string(r.outcome)
	f.Facts["package"], f.Facts["changed"] = r.pkg, r.changed
	level, said := r.said(g.root != "")
	f.Level = level
	if note != "" {
		said += "; " + note
	}
	f.Text = fmt.Sprintf("runs %s %s for gzip layers (%s): %s", program, strings.Join(c.args, " "), r.owner, said)
	if r.speed > 0 {
		f.Facts["bytesPerSecond"], f.Facts["ours"] = int64(r.speed), int64(ours())
	}
	switch {
	case g.guess != "" && level == OK:
		f.Level, f.Text = Unknown, fmt.Sprintf("%s %s (run it as root to be sure)", g.guess, f.Text)
	case g.guess != "":
		if level == Problem {
			f.Level = Warning
		}
		f.Text = fmt.Sprintf("%s %s (run it as root to be sure)", g.guess, f.Text)
	case g.parent != nil && !asked && level == Problem:
		f.Level = Warning
		f.Text += fmt.Sprintf("; dockerd %d does not answer, and may be one that unpacks layers itself", g.parent.pid)
	case stores && g.parent == nil && level == Problem:
		f.Level = Warning
		f.Text += "; a pull is unpacked by containerd, only docker import and ADD run it"
	}
	if level == Problem {
		f.Fix = append(f.Fix, e.instead(g.kind, g.proc))
		fix, d := e.without(ctx, g)
		f.Fix, f.DropIn = append(f.Fix, fix...), d
	}
	return f
}

// said describes the result of a trial, and its meaning for a pull.
func (r *tried) said(elsewhere bool) (Level, string) {
	switch r.outcome {
	case works:
		return OK, fmt.Sprintf("it works, at %.0f MB/s; fastpull's own decoder has %.0f MB/s", r.speed/1e6, ours()/1e6)
	case notTried:
		return Unknown, "it could not be tried: " + r.detail
	case cannotRun:
		return Problem, "it cannot run: " + r.detail + ". Every pull fails by it"
	}
	text := fmt.Sprintf("it %s with %s, %s", r.outcome, r.stream, r.detail)
	switch r.outcome {
	case acceptsBroken:
		return Warning, fmt.Sprintf("it takes %s for a good one: %s. An Engine finds that out, by the digests", r.stream, r.detail)
	case tooSlow:
		return Warning, text
	case hangs:
		text += ". A pull stops there without an error, for ever"
	case wrongBytes:
		text = fmt.Sprintf("it gives wrong bytes for %s, %s. A pull fails by it", r.stream, r.detail)
	default:
		text += ". A pull fails by it"
	}
	if r.broken {
		return Warning, text[:strings.LastIndex(text, ". ")] + ". An Engine finds out before, by the digest"
	}
	return Problem, text
}
