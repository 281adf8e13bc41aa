//go:build e2e

package dockerroot

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// umociUnpack lets umoci unpack the image, an OCI one, into the new folder root.
// What umoci has against the image is the error.
func umociUnpack(t *testing.T, im kit.Image, root string) error {
	t.Helper()
	layout := filepath.Join(t.TempDir(), "layout")
	im.WriteLayout(t, layout)
	ctx, cancel := context.WithTimeout(t.Context(), kit.RunDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, "umoci", "raw", "unpack", "--image", layout+":it", root)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("umoci: %v", err)
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
