package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// inPeak is set in the environment of a test binary that [PeakMemory] runs.
const inPeak = "TESTKIT_PEAK_MEMORY"

// PeakMemory returns the most memory, in MiB, of a process that calls run and does nothing
// else. The process is the test binary, which runs the test t again: what t does before it
// calls PeakMemory counts too.
func PeakMemory(t *testing.T, run func(testing.TB) error) (peak int64) {
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
