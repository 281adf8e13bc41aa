//go:build e2e

package kit

import (
	"os"
	"strconv"
	"testing"
)

// FromEnv returns the number in an environment variable, or otherwise if it is not set.
func FromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("$%s: %v", name, err)
	}
	return n
}
