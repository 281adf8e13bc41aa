package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
)

func TestSplit(t *testing.T) {
	a, b, c := errors.New("a"), errors.New("b"), errors.New("c")
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"nil", nil, "[<nil>]"},
		{"one", a, "[a]"},
		{"joined", errors.Join(a, b), "[a b]"},
		{"joined twice", errors.Join(errors.Join(a, b), c), "[a b c]"},
		{"with a kind", fault.Wrap(fault.Failed, errors.Join(a, b)), "[a b]"},
		{"alone in a join", errors.Join(nil, a), "[a]"},
		{"with words before", fmt.Errorf("x: %w", errors.Join(a, b)), "[x: a\nb]"},
		{"two causes of one", fmt.Errorf("%w (%w)", a, b), "[a (b)]"},
	} {
		if got := fmt.Sprint(split(tc.err)); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestPrintError(t *testing.T) {
	err := fault.Wrap(fault.Failed, errors.Join(
		fault.WithHint(errors.New("first"), "do %s", "this"),
		errors.New("second"),
		fmt.Errorf("third: %w", fault.WithHint(errors.New("\x1b[2Jevil\nfastpull: forged"), "\u202ehint"))))
	var b bytes.Buffer
	printError(&b, false, err)
	want := "fastpull: first\nhint: do this\nfastpull: second\n" +
		"fastpull: third: \\x1b[2Jevil\\nfastpull: forged\nhint: \\u202ehint\n"
	if b.String() != want {
		t.Errorf("printed\n%s, want\n%s", b.String(), want)
	}
}

func TestPrintJSON(t *testing.T) {
	var b bytes.Buffer
	if err := printJSON(&b, map[string]string{"k": "\x1b\u009b\u202e\u007f → ü"}); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"k\": \"\\u001b\\u009b\\u202e\\u007f → ü\"\n}\n"; b.String() != want {
		t.Errorf("printed %q, want %q", b.String(), want)
	}
	if err := printJSON(&b, func() {}); err == nil {
		t.Error("a function has no JSON")
	}
}

// run is Main with strings.
func run(ctx context.Context, in io.Reader, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = Main(ctx, args, Streams{In: in, Out: &o, Err: &e})
	return code, o.String(), e.String()
}

// TestInterrupt: an interrupt ends also what cannot be interrupted itself, the
// wait for a list that somebody types.
func TestInterrupt(t *testing.T) {
	in, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	begun := time.Now()
	code, out, errs := run(ctx, in, "--store", filepath.Join(t.TempDir(), "s"), "-f", "-")
	if code != 130 || out != "" || !strings.HasPrefix(errs, "fastpull: interrupted") || strings.Count(errs, "\n") != 1 {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
	if took := time.Since(begun); took > time.Minute { // the list never ends
		t.Errorf("it took %v", took)
	}
}

// TestOthersDraft: a run that fails does not claim the draft of another bundle.
func TestOthersDraft(t *testing.T) {
	host := startRegistry(t)
	file := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(file+bundle.DraftSuffix, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-o", file}, {"bundle", "--layers=keep", "--no-resume", "-o", file}} {
		code, _, errs := run(t.Context(), strings.NewReader(""), append(args, host+"/none:1")...)
		if code != 3 || strings.Contains(errs, "stays") || strings.Contains(errs, "continues") {
			t.Errorf("%v: exit code %d, %q", args, code, errs)
		}
	}
}

// TestListErrors: a list that breaks off is not taken for a short one.
func TestListErrors(t *testing.T) {
	in := io.MultiReader(strings.NewReader("base:1\n"), failing{})
	code, _, errs := run(t.Context(), in, "--store", filepath.Join(t.TempDir(), "s"), "-f", "-")
	if code != 1 || !strings.Contains(errs, "from standard input: broken") {
		t.Errorf("exit code %d, %q", code, errs)
	}
	names, err := parseList("x", strings.NewReader("a\r\n  b # c\n#d\n\n"))
	if err != nil || !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("%q, %v", names, err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error)  { return 0, errors.New("broken") }
func (failing) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// TestClosedOutput pulls while no process reads the result. The image is there, and
// the exit code tells that not all went well.
func TestClosedOutput(t *testing.T) {
	host := startRegistry(t)
	for _, args := range [][]string{nil, {"--json"}} {
		dir := filepath.Join(t.TempDir(), "s")
		var errs bytes.Buffer
		args = append(args, "--store", dir, "--progress=quiet", host+"/app:1")
		if code := Main(t.Context(), args, Streams{In: strings.NewReader(""), Out: failing{}, Err: &errs}); code != 1 || !strings.Contains(errs.String(), "broken pipe") {
			t.Errorf("exit code %d, %q", code, errs.String())
		}
		s, err := overlay.OpenReader(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Find(host + "/app:1"); err != nil {
			t.Error(err)
		}
		for _, args := range [][]string{{"images"}, {"images", "--json"}, {"inspect", host + "/app:1"}} {
			if code := Main(t.Context(), append(args, "--store", dir), Streams{Out: failing{}, Err: io.Discard}); code != 1 {
				t.Errorf("%q: exit code %d", args, code)
			}
		}
	}
}

// TestClosedPipe is the same with a process and a pipe that nobody has open: it
// ends by SIGPIPE, as others do, and the image is there.
func TestClosedPipe(t *testing.T) {
	host := startRegistry(t)
	dir := filepath.Join(t.TempDir(), "s")
	fastpull, err := exec.LookPath("fastpull") // the one of TestMain
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	p, err := os.StartProcess(fastpull, []string{"fastpull", "--store", dir, host + "/app:1"}, &os.ProcAttr{Files: []*os.File{nil, w, w}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	st, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if ws := st.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGPIPE {
		t.Errorf("it ended with %v", st)
	}
	s, err := overlay.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(host + "/app:1"); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "fastpull/run")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestDefaultStore is root's; others have one below their home.
func TestDefaultStore(t *testing.T) {
	if got := defaultStore(); got != "/var/lib/fastpull" {
		t.Errorf("default store: %s", got)
	}
}

func TestVersion(t *testing.T) {
	old := version
	defer func() { version = old }()
	version = "v1.2.3"
	if code, out, _ := run(t.Context(), nil, "--version"); code != 0 || out != "fastpull v1.2.3\n" {
		t.Errorf("%d, %q", code, out)
	}
}

// TestCommand: what is made of the commands is the same for all users.
func TestCommand(t *testing.T) {
	flags := func() string {
		var b strings.Builder
		root := Command()
		for _, c := range append(root.Commands(), root) {
			c.Flags().VisitAll(func(f *pflag.Flag) { fmt.Fprintf(&b, "%s --%s %q: %s\n", c.Name(), f.Name, f.DefValue, f.Usage) })
		}
		return b.String()
	}
	one := flags()
	if n := strings.Count(one, rootStore); n < 5 {
		t.Errorf("the default store is named %d times", n)
	}
	for _, v := range []string{storeVariable, "XDG_DATA_HOME", "HOME"} {
		t.Setenv(v, "/else/where")
	}
	if two := flags(); two != one {
		t.Errorf("another user gets\n%s\nand not\n%s", two, one)
	}
}

// TestSizesAgree pulls two images that share a layer: what a dry run foresees, what a pull
// counts, and what a dry run finds afterwards are the same bytes, as JSON and in words.
func TestSizesAgree(t *testing.T) {
	host, dir := startRegistry(t), filepath.Join(t.TempDir(), "s")
	do := func(args ...string) string {
		t.Helper()
		code, out, errs := run(t.Context(), nil, append(args, "--store", dir, "--progress=quiet", host+"/base:1", host+"/app:1")...)
		if code != 0 {
			t.Fatalf("%q: exit code %d: %s", args, code, errs)
		}
		return out
	}
	var foreseen, pulled struct {
		BytesToFetch, BytesFetched int64
		Images                     []struct{ BytesFetched int64 }
	}
	words := do("--dry-run")
	if err := json.Unmarshal([]byte(do("--dry-run", "--json")), &foreseen); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(do("--json")), &pulled); err != nil {
		t.Fatal(err)
	}
	n := foreseen.BytesToFetch
	if n == 0 || pulled.BytesFetched != n || pulled.Images[0].BytesFetched+pulled.Images[1].BytesFetched != n {
		t.Errorf("a dry run foresees %d bytes, the pull has %+v", n, pulled)
	}
	size := progress.Bytes(n)
	if want := "to fetch: " + size + "; layers that are there already: 0 B\n"; !strings.HasSuffix(words, want) {
		t.Errorf("a dry run says\n%s, want %s", words, want)
	}
	if got, want := do("--dry-run"), "to fetch: 0 B; layers that are there already: "+size+"\n"; !strings.HasSuffix(got, want) {
		t.Errorf("a dry run of what is there says\n%s, want %s", got, want)
	}
}
