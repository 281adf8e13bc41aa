//go:build e2e

package kit

import (
	"path/filepath"
	"sync"
	"testing"
)

// Storage returns the path of a program on Podman's own library, in the version that fastpull
// has: see testdata/storage.
func Storage(t *testing.T) string {
	t.Helper()
	path, err := buildStorage()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// buildStorage builds the program when it is first wanted.
var buildStorage = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(Programs.tool), "storage")
	return path, goBuild(path, module+"/e2e/kit/testdata/storage", "CGO_ENABLED=0")
})
