//go:build e2e

package kit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
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

// RunDeadline ends a command that should long have ended.
const RunDeadline = 5 * time.Minute

// User is the surroundings in which fastpull runs: a home of its own, a
// temporary folder that must stay empty, and a PATH that is a trap.
type User struct {
	Home string
	Tmp  string
	trap *BrokenUnpigz
	Env  []string

	Stdin string // what fastpull reads there

	By  []string             // a program that goes before fastpull and takes rights from it
	Sys *syscall.SysProcAttr // user of the process
}

// NewUser returns a user without credentials or a Docker Engine; env is added
// to the environment, the last of a name winning.
func NewUser(t *testing.T, env ...string) *User {
	t.Helper()
	u := &User{Home: t.TempDir(), Tmp: t.TempDir(), trap: PlantUnpigz(t, "unpigz", "pigz", "igzip", "gzip")}
	// Podman's store, which is not there: not that of the machine.
	conf := filepath.Join(u.trap.Dir, "storage.conf")
	text := fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n",
		filepath.Join(u.Home, "containers/root"), filepath.Join(u.Home, "containers/run"))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	u.Env = append([]string{
		"HOME=" + u.Home,
		"TMPDIR=" + u.Tmp,
		"XDG_CACHE_HOME=" + filepath.Join(u.Home, ".cache"),
		"PATH=" + u.trap.Dir,
		"DOCKER_HOST=unix://" + filepath.Join(u.Home, "no-docker.sock"),
		"CONTAINERS_STORAGE_CONF=" + conf,
	}, env...)
	return u
}

// Urgently has the user's programs go before all else on the machine. It is for tests of
// how long something takes, which are not about a machine that is busy otherwise.
func (u *User) Urgently(t *testing.T) *User {
	t.Helper()
	nice, err := exec.LookPath("nice")
	if err != nil {
		t.Fatal(err)
	}
	u.By = append(u.By, nice, "-n", "-20")
	return u
}

// Result is what a command came to.
type Result struct {
	Stdout, Stderr string
	Code           int // the exit code, -1 after a signal
	Took           time.Duration
}

// Fastpull runs the program for a new user with an empty home directory.
func Fastpull(t *testing.T, args ...string) Result {
	t.Helper()
	return NewUser(t).Fastpull(t, args...)
}

// Fastpull runs the program to its end and checks what holds for every run.
func (u *User) Fastpull(t *testing.T, args ...string) Result {
	t.Helper()
	return u.Start(t, args...).Wait(t)
}

// Running is a fastpull that has been started.
type Running struct {
	user   *User
	Cmd    *exec.Cmd
	cancel context.CancelFunc
	out    LogBuffer
	Err    LogBuffer
	Begun  time.Time
}

func (u *User) Start(t *testing.T, args ...string) *Running {
	t.Helper()
	r := u.Prepare(t, args...)
	if err := r.Cmd.Start(); err != nil {
		t.Fatalf("start fastpull: %v", err)
	}
	return r
}

// Prepare returns a fastpull that is yet to be started.
func (u *User) Prepare(t *testing.T, args ...string) *Running {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), RunDeadline)
	t.Cleanup(cancel)
	r := &Running{user: u, cancel: cancel, Begun: time.Now()}
	r.Cmd = u.Command(ctx, Programs.Fastpull, args...)
	r.Cmd.Stdin = strings.NewReader(u.Stdin)
	r.Cmd.Stdout, r.Cmd.Stderr = &r.out, &r.Err
	r.Cmd.WaitDelay = 10 * time.Second
	return r
}

// Command is a program in the user's surroundings.
func (u *User) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	argv := slices.Concat(u.By, []string{name}, args)
	if name == Programs.Fastpull {
		argv = slices.Concat(u.By, Programs.before, []string{name}, args)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir, cmd.SysProcAttr = u.Env, u.Home, u.Sys
	return cmd
}

// Signal sends sig and starts the clock of the result anew.
func (r *Running) Signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	r.Begun = time.Now()
	if err := r.Cmd.Process.Signal(sig); err != nil {
		t.Fatalf("signal fastpull: %v\n%s", err, r.Err.String())
	}
}

// KillAtRandom runs fastpull, and kills it after a random part of whole, the time of a whole run.
// killed is false if the run had ended by itself: whole is less the next time. when names the
// moment.
func (u *User) KillAtRandom(t *testing.T, whole *time.Duration, args ...string) (when string, killed bool) {
	t.Helper()
	delay := time.Duration(rand.Int64N(int64(*whole)))
	when = fmt.Sprintf("killed after %v of %v", delay, *whole)
	r := u.Start(t, args...)
	time.Sleep(delay)
	r.Cmd.Process.Kill()
	if killed = r.Wait(t).Code == -1; !killed {
		*whole = max(1, min(*whole, delay))
	}
	return when, killed
}

func (r *Running) Wait(t *testing.T) Result {
	t.Helper()
	defer r.cancel()
	err := r.Cmd.Wait()
	res := Result{r.out.String(), r.Err.String(), r.Cmd.ProcessState.ExitCode(), time.Since(r.Begun)}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("fastpull %q: %v\n%s", r.Cmd.Args[1:], err, res.Stderr)
	}
	if res.Took > RunDeadline {
		t.Fatalf("fastpull %q did not end within %v\n%s", r.Cmd.Args[1:], RunDeadline, res.Stderr)
	}
	if pids := r.user.trap.Starts(t); len(pids) > 0 {
		t.Errorf("fastpull %q ran another program (pids %v)", r.Cmd.Args[1:], pids)
	}
	// A program that was killed could not clean up.
	if left := Names(t, r.user.Tmp); len(left) > 0 && res.Code != -1 {
		t.Errorf("fastpull %q left in TMPDIR: %q", r.Cmd.Args[1:], left)
	}
	return res
}

// Expect ends the test unless the command ended with that code, and what it
// said on either stream has all these words, in whatever case.
func (r Result) Expect(t *testing.T, code int, words ...string) Result {
	t.Helper()
	said := "stdout:\n" + r.Stdout + "stderr:\n" + r.Stderr
	if r.Code != code {
		t.Fatalf("exit code %d, want %d\n%s", r.Code, code, said)
	}
	for _, w := range words {
		if !strings.Contains(strings.ToLower(said), strings.ToLower(w)) {
			t.Errorf("does not say %q\n%s", w, said)
		}
	}
	return r
}

// ImageSummary is what a summary says of one image.
type ImageSummary struct {
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

// Summary is what --json puts on stdout.
type Summary struct {
	Destination  string         `json:"destination"`
	Images       []ImageSummary `json:"images"`
	BytesFetched int64          `json:"bytesFetched"`
	BytesSent    int64          `json:"bytesSent"`
	Seconds      float64        `json:"seconds"`
}

func (r Result) Summary(t *testing.T) Summary {
	t.Helper()
	var s Summary
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		t.Fatalf("--json on stdout: %v\n%s", err, r.Stdout)
	}
	return s
}

// Names lists a folder; one that is not there is empty.
func Names(t *testing.T, dir string) []string {
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

// LogBuffer takes the output of a process while it can be read.
type LogBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *LogBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Tail is the end of a server's log, for a failing test to show: no uploads
// and no chatter.
func (b *LogBuffer) Tail() string {
	lines := slices.DeleteFunc(strings.SplitAfter(b.String(), "\n"), func(line string) bool {
		return strings.Contains(line, "level=info") || strings.Contains(line, "blob unknown") ||
			strings.Contains(line, `"go-containerregistry"`) || strings.Contains(line, `"Go-http-client`)
	})
	return strings.Join(lines[max(0, len(lines)-25):], "")
}

// Eventually polls until ok or until the deadline, and tells which.
func Eventually(d time.Duration, ok func() bool) bool {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}

// Partials are the names of the blobs that are kept in the user's cache.
func (u *User) Partials(t *testing.T) []string {
	t.Helper()
	return Names(t, filepath.Join(u.Home, ".cache/fastpull/partial"))
}

// Says waits until a pull has said something.
func (r *Running) Says(t *testing.T, words string) {
	t.Helper()
	if !Eventually(time.Minute, func() bool { return strings.Contains(r.Err.String(), words) }) {
		t.Fatalf("does not say %q\n%s", words, r.Err.String())
	}
}

// FewFiles has the user's programs open no more than n files at a time, and begin with a
// soft limit below that.
func (u *User) FewFiles(t *testing.T, n int) *User {
	t.Helper()
	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		t.Fatal(err)
	}
	u.By = append(u.By, prlimit, fmt.Sprintf("--nofile=%d:%d", n-16, n))
	return u
}
