package need

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

// recorder is a test that notes how it ends.
type recorder struct {
	testing.TB
	name, end string
}

func (r *recorder) Helper()      {}
func (r *recorder) Name() string { return r.name }

func (r *recorder) Fatalf(format string, args ...any) {
	r.end = "failed: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skip(args ...any) {
	r.end = "skipped: " + fmt.Sprint(args...)
	runtime.Goexit()
}

// endOf runs a test to its end.
func endOf(name string, test func(t testing.TB)) string {
	r := &recorder{name: name, end: "passed"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(r)
	}()
	<-done
	return r.end
}

// TestLack has a need that is not met skip a test, and fail it where nothing may be missing.
func TestLack(t *testing.T) {
	for _, tc := range []struct {
		name  string
		test  func(t testing.TB)
		unmet bool
		says  string
	}{
		{"root", func(t testing.TB) { Root(t, "mount") }, os.Geteuid() != 0, "needs root to mount"},
		{"a program", func(t testing.TB) { Program(t, "no-such-program") }, true, "needs the program no-such-program"},
		{"a program that is there", func(t testing.TB) { Program(t, "sh") }, false, ""},
		{"time", func(t testing.TB) { Time(t, "much data") }, testing.Short(), "takes long: much data"},
		{Unraced + "It", NoDetector, Raced, "needs a build without the race detector"},
	} {
		for all, end := range map[string]string{"": "skipped: ", "1": "failed: "} {
			t.Setenv(All, all)
			got := endOf(tc.name, tc.test)
			if !tc.unmet && got != "passed" || tc.unmet && !strings.HasPrefix(got, end+tc.says) {
				t.Errorf("%s, with %s=%q: %s", tc.name, All, all, got)
			}
		}
	}
	if got := endOf("TestOther", NoDetector); !strings.HasPrefix(got, "failed: the name") {
		t.Errorf("a test that the Makefile would not run: %s", got)
	}
}

// TestRootMain runs the tests of a package, or does not.
func TestRootMain(t *testing.T) {
	for all, lacking := range map[string]int{"": 0, "1": 1} {
		t.Setenv(All, all)
		want := lacking
		if os.Geteuid() == 0 {
			want = 7
		}
		if got := RootMain("mount", func() int { return 7 }); got != want {
			t.Errorf("with %s=%q the exit code is %d, want %d", All, all, got, want)
		}
	}
}
