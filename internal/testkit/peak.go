package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// inPeak is set in the environment of a test binary that [ExpectPeak] runs.
const inPeak = "TESTKIT_PEAK_MEMORY"

// ExpectPeak fails the test if a process that calls run, and does nothing else, needs more
// than most MiB. The process is the test binary, which runs the test t again: what t does
// before it calls ExpectPeak counts too.
func ExpectPeak(t *testing.T, most int64, run func(testing.TB) error) {
	t.Helper()
	peak := peakMemory(t, run)
	t.Logf("%d MiB", peak)
	if peak > most {
		t.Errorf("%d MiB, more than %d", peak, most)
	}
}

// peakMemory returns the most memory, in MiB, of that process.
func peakMemory(t *testing.T, run func(testing.TB) error) (peak int64) {
	t.Helper()
	if os.Getenv(inPeak) != "" {
		if err := run(t); err != nil {
			t.Error(err)
		}
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(string(status), "VmHWM:")
		if _, err := fmt.Sscan(line, &peak); err != nil {
			t.Fatal(err)
		}
		peak >>= 10
		fmt.Printf("peak: %d\n", peak)
		return peak
	}
	var pattern []string
	for name := range strings.SplitSeq(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(name)+"$")
	}
	cmd := exec.Command(os.Args[0], "-test.run="+strings.Join(pattern, "/"))
	cmd.Env = append(os.Environ(), inPeak+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, said, _ := strings.Cut(string(out), "peak: ")
	if _, err := fmt.Sscan(said, &peak); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return peak
}
