//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// runDeadline ends a command that should long have ended.
const runDeadline = 5 * time.Minute

// user is the surroundings in which fastpull runs: a home of its own, a
// temporary folder that must stay empty, and a PATH that is a trap.
type user struct {
	home string
	tmp  string
	trap *brokenUnpigz
	env  []string

	stdin string // what fastpull reads there

	by  []string             // a program that goes before fastpull and takes rights from it
	sys *syscall.SysProcAttr // who fastpull is
}

// newUser returns a user without credentials or a Docker Engine; env is added
// to the environment, the last of a name winning.
func newUser(t *testing.T, env ...string) *user {
	t.Helper()
	u := &user{home: t.TempDir(), tmp: t.TempDir(), trap: plantUnpigz(t, "unpigz", "pigz", "igzip", "gzip")}
	u.env = append([]string{
		"HOME=" + u.home,
		"TMPDIR=" + u.tmp,
		"XDG_CACHE_HOME=" + filepath.Join(u.home, ".cache"),
		"PATH=" + u.trap.dir,
		"DOCKER_HOST=unix://" + filepath.Join(u.home, "no-docker.sock"),
	}, env...)
	return u
}

// urgently has the user's programs go before all else on the machine. It is for tests of
// how long something takes, which are not about a machine that is busy otherwise.
func (u *user) urgently(t *testing.T) *user {
	t.Helper()
	nice, err := exec.LookPath("nice")
	if err != nil {
		t.Fatal(err)
	}
	u.by = append(u.by, nice, "-n", "-20")
	return u
}

// result is what a command came to.
type result struct {
	stdout, stderr string
	code           int // the exit code, -1 after a signal
	took           time.Duration
}

// fastpull runs the program for a new user who has nothing.
func fastpull(t *testing.T, args ...string) result {
	t.Helper()
	return newUser(t).fastpull(t, args...)
}

// fastpull runs the program to its end and checks what holds for every run.
func (u *user) fastpull(t *testing.T, args ...string) result {
	t.Helper()
	return u.start(t, args...).wait(t)
}

// running is a fastpull that has been started.
type running struct {
	user   *user
	cmd    *exec.Cmd
	cancel context.CancelFunc
	out    logBuffer
	err    logBuffer
	begun  time.Time
}

func (u *user) start(t *testing.T, args ...string) *running {
	t.Helper()
	r := u.prepare(t, args...)
	if err := r.cmd.Start(); err != nil {
		t.Fatalf("start fastpull: %v", err)
	}
	return r
}

// prepare returns a fastpull that is yet to be started.
func (u *user) prepare(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runDeadline)
	t.Cleanup(cancel)
	r := &running{user: u, cancel: cancel, begun: time.Now()}
	r.cmd = u.command(ctx, programs.fastpull, args...)
	r.cmd.Stdin = strings.NewReader(u.stdin)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.err
	r.cmd.WaitDelay = 10 * time.Second
	return r
}

// command is a program in the user's surroundings.
func (u *user) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	argv := slices.Concat(u.by, []string{name}, args)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir, cmd.SysProcAttr = u.env, u.home, u.sys
	return cmd
}

// signal sends sig and starts the clock of the result anew.
func (r *running) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	r.begun = time.Now()
	if err := r.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("signal fastpull: %v\n%s", err, r.err.String())
	}
}

func (r *running) wait(t *testing.T) result {
	t.Helper()
	defer r.cancel()
	err := r.cmd.Wait()
	res := result{r.out.String(), r.err.String(), r.cmd.ProcessState.ExitCode(), time.Since(r.begun)}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("fastpull %q: %v\n%s", r.cmd.Args[1:], err, res.stderr)
	}
	if res.took > runDeadline {
		t.Fatalf("fastpull %q did not end within %v\n%s", r.cmd.Args[1:], runDeadline, res.stderr)
	}
	if pids := r.user.trap.starts(t); len(pids) > 0 {
		t.Errorf("fastpull %q ran another program (pids %v)", r.cmd.Args[1:], pids)
	}
	// A program that was killed could not clean up.
	if left := names(t, r.user.tmp); len(left) > 0 && res.code != -1 {
		t.Errorf("fastpull %q left in TMPDIR: %q", r.cmd.Args[1:], left)
	}
	return res
}

// expect ends the test unless the command ended with that code, and what it
// said on either stream has all these words, in whatever case.
func (r result) expect(t *testing.T, code int, words ...string) result {
	t.Helper()
	said := "stdout:\n" + r.stdout + "stderr:\n" + r.stderr
	if r.code != code {
		t.Fatalf("exit code %d, want %d\n%s", r.code, code, said)
	}
	for _, w := range words {
		if !strings.Contains(strings.ToLower(said), strings.ToLower(w)) {
			t.Errorf("does not say %q\n%s", w, said)
		}
	}
	return r
}

// imageSummary is what a summary says of one image.
type imageSummary struct {
	Reference    string  `json:"reference"`
	Digest       string  `json:"digest"`
	ImageID      string  `json:"imageID"`
	Platform     string  `json:"platform"`
	Status       string  `json:"status"`
	Error        string  `json:"error"`
	Layers       int     `json:"layers"`
	BytesFetched int64   `json:"bytesFetched"`
	Seconds      float64 `json:"seconds"`
}

// summary is what --json puts on stdout.
type summary struct {
	Destination  string         `json:"destination"`
	Images       []imageSummary `json:"images"`
	BytesFetched int64          `json:"bytesFetched"`
	BytesSent    int64          `json:"bytesSent"`
	Seconds      float64        `json:"seconds"`
}

func (r result) summary(t *testing.T) summary {
	t.Helper()
	var s summary
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		t.Fatalf("--json on stdout: %v\n%s", err, r.stdout)
	}
	return s
}

// names lists a folder; one that is not there is empty.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// logBuffer takes the output of a process while it can be read.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// tail is the end of a server's log, for a failing test to show: no uploads
// and no chatter.
func (b *logBuffer) tail() string {
	lines := slices.DeleteFunc(strings.SplitAfter(b.String(), "\n"), func(line string) bool {
		return strings.Contains(line, "level=info") || strings.Contains(line, "blob unknown") ||
			strings.Contains(line, `"go-containerregistry"`) || strings.Contains(line, `"Go-http-client`)
	})
	return strings.Join(lines[max(0, len(lines)-25):], "")
}

// eventually polls until ok or until the deadline, and tells which.
func eventually(d time.Duration, ok func() bool) bool {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}

// partials are the names of the blobs that are kept in the user's cache.
func (u *user) partials(t *testing.T) []string {
	t.Helper()
	return names(t, filepath.Join(u.home, ".cache/fastpull/partial"))
}

// says waits until a pull has said something.
func (r *running) says(t *testing.T, words string) {
	t.Helper()
	if !eventually(time.Minute, func() bool { return strings.Contains(r.err.String(), words) }) {
		t.Fatalf("does not say %q\n%s", words, r.err.String())
	}
}
