package dockerroot

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fastpull/fastpull/fault"
)

// TestElsewhere refuses a data-root whose Docker would turn away from its images.
func TestElsewhere(t *testing.T) {
	dir := t.TempDir()
	make := func(name string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := elsewhere(dir); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	make("containerd/daemon/io.containerd.metadata.v1.bolt/meta.db")
	if err := elsewhere(dir); fault.KindOf(err) != fault.Usage {
		t.Errorf("with images in containerd: %v", err)
	}
	make("overlay2/l/x")
	if err := elsewhere(dir); err != nil {
		t.Errorf("with overlay2: %v", err)
	}
}
