//go:build e2e

package engines

import (
	"os"
	"testing"
)

// TestPrograms compiles all programs but the kubelet, which has a test of its own (make test-kubelet).
// It runs before the other end-to-end tests and has a longer timeout: on a new machine the
// compilation takes longer than the tests, and packages that began together would each compile
// the same program.
func TestPrograms(t *testing.T) {
	for name := range programs {
		if name == "kubelet" || name == "crio" {
			continue
		}
		path, err := build(t.Context(), name)
		if err != nil {
			t.Error(err)
			continue
		}
		if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
			t.Errorf("%s: %v, %v", path, st, err)
		}
	}
	if _, err := Crio(t.Context(), t.TempDir()); err != nil {
		t.Error(err)
	}
}
