//go:build e2e

package podman

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestPodmanBuildah has Buildah begin a container of an image, run it, and see its files.
// Nothing is fetched for it.
func TestPodmanBuildah(t *testing.T) {
	t.Parallel()
	ship := kit.NewShipment(t)
	s := newStore(t)
	kit.Fastpull(t, "--podman="+s.root, ship.Refs[0]).Expect(t, 0)
	ship.Reg.Traffic(t)
	name := s.buildah(t, "from", "--tls-verify=false", ship.Refs[0])
	traffic := ship.Reg.Traffic(t)
	for _, l := range ship.Images[0].Layers {
		if gets, _ := traffic.Blob(l.Digest); gets > 0 {
			t.Errorf("buildah from fetches layer %s", l.Digest)
		}
	}
	if got := s.buildah(t, "run", "--isolation", "chroot", name, "/bin/cat", "/word"); got != kit.Words[0] {
		t.Errorf("buildah run prints %q, want %q", got, kit.Words[0])
	}
	point := s.buildah(t, "mount", name)
	if word, err := os.ReadFile(filepath.Join(point, "word")); err != nil || string(word) != kit.Words[0]+"\n" {
		t.Errorf("buildah mount has the word %q, %v", word, err)
	}
	s.buildah(t, "umount", name)
	s.buildah(t, "rm", name)
	if found := s.check(t); found != "" {
		t.Errorf("the library finds\n%s", found)
	}
}
