// Package need says what a test needs of the machine and of the build.
//
// A contributor may run the tests as a plain user, on any Linux machine: a test that needs
// more calls a function of this package, and is skipped with a reason. No other test may
// be skipped; a test in the root of the module holds that.
//
// Where [All] is set, nothing may be missing: the same functions fail the test. The targets
// of the Makefile for all tests set it, and so CI fails instead of skipping a test that
// nothing else runs.
package need

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// All is an environment variable. If it is not empty, a test fails where it would be
// skipped.
const All = "FASTPULL_TEST_ALL"

// Unraced begins the names of tests that are run without the race detector only.
const Unraced = "TestUnraced"

// Root skips a test unless it runs as root. The reason completes "needs root to …".
func Root(t testing.TB, to string) {
	t.Helper()
	if os.Geteuid() != 0 {
		lack(t, "needs root to "+to)
	}
}

// RootMain is for the TestMain of a package all of whose tests need root. It calls tests
// and returns their exit code; a plain user is told the reason instead, which completes
// "the tests of this package need root to …".
func RootMain(to string, tests func() int) (code int) {
	if os.Geteuid() == 0 {
		return tests()
	}
	fmt.Fprintf(os.Stderr, "skipped: the tests of this package need root to %s\n", to)
	if os.Getenv(All) != "" {
		return 1
	}
	return 0
}

// Program returns the path of a program, and skips a test on a machine that lacks it.
func Program(t testing.TB, name string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		lack(t, fmt.Sprintf("needs the program %s: %v", name, err))
	}
	return path
}

// NoDetector skips a test in builds with the race detector. It is for tests of a single
// goroutine that go through much data, which take ten times as long with the detector, and
// for tests that measure memory. The name of such a test begins with [Unraced]: by that
// the Makefile runs it in a build without the detector.
func NoDetector(t testing.TB) {
	t.Helper()
	if !strings.HasPrefix(t.Name(), Unraced) {
		t.Fatalf("the name of a test that is run without the race detector must begin with %s", Unraced)
	}
	if Raced {
		lack(t, "needs a build without the race detector")
	}
}

// Time skips a test where short tests alone are wanted (go test -short). The reason
// completes "takes long: …".
func Time(t testing.TB, why string) {
	t.Helper()
	if testing.Short() {
		lack(t, "takes long: "+why)
	}
}

func lack(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(All) != "" {
		t.Fatalf("%s, and %s is set", what, All)
	}
	t.Skip(what)
}
