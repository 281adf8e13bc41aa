//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// umociUnpack lets umoci unpack the image, an OCI one, into the new folder root.
// What umoci has against the image is the error.
func umociUnpack(t *testing.T, im image, root string) error {
	t.Helper()
	layout := filepath.Join(t.TempDir(), "layout")
	im.writeLayout(t, layout)
	ctx, cancel := context.WithTimeout(t.Context(), runDeadline)
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

// writeLayout writes the image, tagged "it", as an OCI layout (image-spec,
// image-layout.md).
func (im image) writeLayout(t *testing.T, dir string) {
	t.Helper()
	blob := func(h v1.Hash, content []byte) {
		writeFile(t, filepath.Join(dir, "blobs", h.Algorithm, h.Hex), string(content))
	}
	for _, l := range im.layers {
		blob(l.digest, l.packed)
	}
	blob(im.id, im.config)
	blob(im.digest, im.manifest)
	writeFile(t, filepath.Join(dir, "oci-layout"), `{"imageLayoutVersion":"1.0.0"}`)
	writeFile(t, filepath.Join(dir, "index.json"), string(encode(t, v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: im.mediaType, Digest: im.digest, Size: int64(len(im.manifest)),
			Annotations: map[string]string{"org.opencontainers.image.ref.name": "it"},
		}},
	})))
}
