package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fastpull/fastpull/cli"
	"github.com/fastpull/fastpull/internal/need"
)

var day = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func pages(t *testing.T) map[string]string {
	t.Helper()
	root := cli.Command()
	root.AddCommand(&cobra.Command{Use: "secret", Hidden: true, Run: func(*cobra.Command, []string) {}})
	list, err := manual(root, "v1.2.3", day)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, p := range list {
		all[p.name] = string(p.text)
	}
	return all
}

// shownAs returns a page as a terminal has it, without emphasis. Warnings of groff fail the test.
func shownAs(t *testing.T, text string) string {
	t.Helper()
	cmd := exec.Command(need.Program(t, "groff"), "-man", "-Tascii", "-ww", "-P-cbou", "-rLL=200n")
	cmd.Stdin = strings.NewReader(text)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Fatalf("groff: %v\n%s\n%s", err, errs.String(), text)
	}
	return out.String()
}

// TestManual has a page for each command and each topic, that tells of all flags, and none for
// what is hidden.
func TestManual(t *testing.T) {
	all := pages(t)
	root := cli.Command()
	want := 1
	for _, c := range root.Commands() {
		if c.Hidden {
			continue
		}
		want++
		if c.IsAdditionalHelpTopicCommand() {
			page := shownAs(t, all["fastpull-"+c.Name()+".7"])
			for line := range strings.Lines(c.Long) {
				if words := strings.TrimSpace(line); !strings.Contains(page, words) && !strings.HasPrefix(c.Long, line) {
					t.Errorf("the page of %s lacks %q", c.Name(), words)
				}
			}
			continue
		}
		page := shownAs(t, all["fastpull-"+c.Name()+".1"])
		if !strings.Contains(page, "fastpull-"+c.Name()+" - "+c.Short) {
			t.Errorf("the page of %s does not begin with it:\n%.300s", c.Name(), page)
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			name, usage := pflag.UnquoteUsage(f)
			head := "--" + f.Name + "=" + name
			switch {
			case f.Value.Type() == "bool":
				head = "--" + f.Name + " "
			case f.NoOptDefVal != "":
				head = "--" + f.Name + "[=" + name + "]"
			}
			if !strings.Contains(strings.ReplaceAll(page, "\n", " \n"), head) {
				t.Errorf("the page of %s lacks %s", c.Name(), head)
			}
			if words := strings.Join(strings.Fields(usage), " "); !strings.Contains(strings.Join(strings.Fields(page), " "), words) {
				t.Errorf("the page of %s says of --%s something else than %q", c.Name(), f.Name, words)
			}
		})
	}
	if len(all) != want {
		t.Errorf("there are %d pages, want %d", len(all), want)
	}
	main := shownAs(t, all["fastpull.1"])
	for _, words := range []string{"FASTPULL(1)", "fastpull v1.2.3", "Nov 2026", "fastpull-exit-codes(7)", "fastpull-pull(1)", "(default: auto)", "/var/lib/fastpull)"} {
		if !strings.Contains(main, words) {
			t.Errorf("fastpull(1) lacks %q", words)
		}
	}
	if strings.Contains(main, "secret") || strings.Contains(main, "cobra") {
		t.Error("fastpull(1) tells too much")
	}
}

// TestManualIsReproducible makes the pages for other users and at other places.
func TestManualIsReproducible(t *testing.T) {
	one := pages(t)
	for _, v := range []string{"FASTPULL_STORE", "XDG_DATA_HOME", "HOME", "TMPDIR", "FASTPULL_GZIP"} {
		t.Setenv(v, "/else/where")
	}
	t.Setenv("TZ", "Asia/Shanghai")
	for name, text := range pages(t) {
		if text != one[name] {
			t.Errorf("%s differs", name)
		}
	}
}
