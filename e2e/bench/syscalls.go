package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/fastpull/fastpull/fault"
)

// calls is how often a program made which system call.
type calls map[string]int

// countCalls counts for each of these contests, which are of files.
func (b *bench) countCalls(ctx context.Context, names []string, w io.Writer) error {
	for _, name := range names {
		if err := b.syscalls(ctx, filepath.Base(name), w); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// syscalls has each extractor extract a tar once under strace, and prints how
// many system calls that took for an entry of the tar.
func (b *bench) syscalls(ctx context.Context, kind string, w io.Writer) error {
	t, err := b.tar(ctx, kind)
	if err != nil {
		return err
	}
	list, err := b.extractors(ctx, kind)
	if err != nil {
		return err
	}
	var names []string
	var counts []calls
	for _, x := range list {
		b.source.say("%s, under strace: %s", kind, x.name)
		c, err := b.trace(ctx, x, t)
		if err != nil {
			return fmt.Errorf("system calls of %s: %w", x.name, err)
		}
		names, counts = append(names, x.name), append(counts, c)
	}
	return printCalls(w, t, names, counts)
}

// trace counts the calls of all threads of an extractor.
func (b *bench) trace(ctx context.Context, x extractor, t *testTar) (c calls, err error) {
	strace, err := firstOf("strace")
	if err != nil {
		return nil, fault.WithHint(err, "apt-get install strace")
	}
	file := filepath.Join(b.temp, "strace")
	err = b.onDisk(ctx, t.subject(), func(ctx context.Context, d *disk) error {
		return x.run(ctx, d, t, func(ctx context.Context, c command) (string, error) {
			// -I2 lets an interrupt through, on which strace ends its program too.
			c.args = append([]string{"-I2", "-f", "-c", "-o", file, "--", c.program}, c.args...)
			c.program = strace
			out, _, err := c.run(ctx)
			return out, err
		})
	})
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseCalls(f)
}

// parseCalls reads the table of strace -c:
//
//	% time     seconds  usecs/call     calls    errors syscall
//	------ ----------- ----------- --------- --------- ----------------
//	 61.20    0.000714           7       100         3 openat
//	100.00    0.001167           7       160         4 total
func parseCalls(r io.Reader) (calls, error) {
	c := make(calls)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		n, err := strconv.Atoi(fields[3])
		if name := fields[len(fields)-1]; err == nil && name != "total" {
			c[name] += n
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(c) == 0 {
		return nil, errors.New("strace has counted nothing")
	}
	return c, nil
}

func (c calls) total() (n int) {
	for _, k := range c {
		n += k
	}
	return n
}

// top are the names of those that were made most, at most n.
func (c calls) top(n int) []string {
	var names []string
	for name := range c {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if c[a] != c[b] {
			return c[b] - c[a]
		}
		return strings.Compare(a, b)
	})
	return names[:min(n, len(names))]
}

// printCalls prints a column for each program: all its calls for an entry, and
// under it the ten most frequent.
func printCalls(w io.Writer, tar *testTar, names []string, counts []calls) error {
	fmt.Fprintf(w, "\nfiles/%s, system calls an entry\n%s: %s\n", tar.Name, tar.Name, tar)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "  \t%s\n  total", strings.Join(names, "\t"))
	each := func(n int) string { return fmt.Sprintf("%.2f", float64(n)/float64(tar.Entries)) }
	for _, c := range counts {
		fmt.Fprintf(t, "\t%s", each(c.total()))
	}
	const rows = 10
	for row := range rows {
		fmt.Fprintf(t, "\n  %d.", row+1)
		for _, c := range counts {
			cell := ""
			if top := c.top(rows); row < len(top) {
				cell = each(c[top[row]]) + " " + top[row]
			}
			fmt.Fprintf(t, "\t%s", cell)
		}
	}
	fmt.Fprintln(t)
	return t.Flush()
}
