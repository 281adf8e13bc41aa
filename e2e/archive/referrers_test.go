//go:build e2e

package archive

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fastpull/fastpull/e2e/kit"
)

// expectSigned looks for what sign has made, as programs that verify it do.
func expectSigned(t *testing.T, repo string, subject v1.Hash, want []v1.Descriptor) {
	t.Helper()
	for _, step := range []struct {
		of   string
		want v1.Descriptor
	}{{subject.String(), want[0]}, {want[0].Digest.String(), want[1]}} {
		index, err := remote.Referrers(kit.ParseRef(t, repo+"@"+step.of).Context().Digest(step.of))
		if err != nil {
			t.Errorf("what refers to %s in %s: %v", step.of, repo, err)
			continue
		}
		m, err := index.IndexManifest()
		if err != nil || len(m.Manifests) != 1 || m.Manifests[0].Digest != step.want.Digest {
			t.Errorf("what refers to %s in %s: %+v, %v", step.of, repo, m, err)
		}
	}
	img, err := remote.Image(kit.ParseRef(t, repo+":sha256-"+subject.Hex+".sig"))
	if err != nil {
		t.Errorf("cosign's tag in %s: %v", repo, err)
		return
	}
	if h, err := img.Digest(); err != nil || h != want[2].Digest {
		t.Errorf("cosign's tag in %s is %s, %v", repo, h, err)
	}
}

// TestReferrers carries signatures with their images: everybody reads the bundle as if
// they were not in it, and push and serve bring them back.
func TestReferrers(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	one := v1.Descriptor{MediaType: s.Images[1].MediaType, Digest: s.Images[1].Digest, Size: int64(len(s.Images[1].Manifest))}
	signed := s.Reg.Sign(t, "two/deep", one)
	both := []kit.Image{
		kit.MakeImage(t, kit.ImageSpec{OCI: true, Platform: "linux/amd64", Layers: []kit.Layer{kit.SmallLayer(t, "word", "amd64\n")}}),
		kit.MakeImage(t, kit.ImageSpec{OCI: true, Platform: "linux/arm64", Layers: []kit.Layer{kit.SmallLayer(t, "word", "arm64\n")}}),
	}
	ref, index := s.Reg.PushIndex(t, "many:1", both...)
	head, err := remote.Head(kit.ParseRef(t, ref))
	if err != nil {
		t.Fatal(err)
	}
	signedIndex := s.Reg.Sign(t, "many", *head)

	kit.Fastpull(t, "bundle", "-o", filepath.Join(t.TempDir(), "x.tar"), "--referrers", s.Refs[1]).Expect(t, 2, "--layers=keep")
	file := s.Bundle(t, "--layers=keep", "--referrers")
	kit.Fastpull(t, "verify", file).Expect(t, 0)
	kit.Fastpull(t, "inspect", file).Expect(t, 0, "Referrer:  "+signed[1].Digest.String(), "application/sbom")
	kit.Run(t, "cmp", file, s.Bundle(t, "--layers=keep", "--referrers", "--jobs=1"))
	var list struct {
		Images, Referrers []struct{ Manifest string }
	}
	if data, err := os.ReadFile(file + ".json"); err != nil || json.Unmarshal(data, &list) != nil || len(list.Images) != 3 || len(list.Referrers) != 3 {
		t.Errorf("the list: %v\n%s", err, data)
	}
	d := kit.StartDockerd(t, kit.DockerdOptions{})
	d.Must(t, "load", "-i", file)
	for i, ref := range s.Refs {
		if got := d.Inspect(t, ref).ID; got != s.Images[i].ID.String() {
			t.Errorf("%s has the ID %s, want %s", ref, got, s.Images[i].ID)
		}
	}
	s.Imported(t, d, file, "keep")
	s.Podman(t, file)
	s.Skopeo(t, file, "keep")
	if sum := kit.Fastpull(t, "load", "--store", filepath.Join(t.TempDir(), "store"), "--json", file).Expect(t, 0).Summary(t); len(sum.Images) != 3 {
		t.Errorf("loaded: %+v", sum.Images)
	}

	// What is new since then, with referrers of an index.
	more := filepath.Join(t.TempDir(), "more.tar")
	kit.Fastpull(t, "bundle", "-o", more, "--layers=keep", "--referrers", "--platform=all", "--since", file, ref, s.Refs[1]).Expect(t, 0)
	kit.Fastpull(t, "verify", more).Expect(t, 0)
	kit.Fastpull(t, "bundle", "-o", filepath.Join(t.TempDir(), "one.tar"), "--layers=keep", "--referrers", "--platform=linux/arm64", ref).Expect(t, 0, "its index are left out")

	to := kit.StartRegistry(t, kit.RegistryOptions{})
	for range 2 {
		kit.Fastpull(t, "push", "--to", to.Addr+"/afar", file).Expect(t, 0, "with 3 that refer to it")
		kit.Fastpull(t, "push", "--to", to.Addr+"/afar", more).Expect(t, 0)
	}
	expectSigned(t, to.Addr+"/afar/two/deep", one.Digest, signed)
	expectSigned(t, to.Addr+"/afar/many", index, signedIndex)

	// An archive that has one platform of an index.
	part := filepath.Join(t.TempDir(), "part.tar")
	d.Ctr(t, "images", "pull", "--plain-http", ref)
	d.Ctr(t, "images", "export", part, ref)
	own := both[0]
	if runtime.GOARCH == "arm64" {
		own = both[1]
	}
	kit.Fastpull(t, "push", "--to", to.Addr+"/part", part).Expect(t, 0, "lacking", own.Digest.String())
	kit.Fastpull(t, "push", "--to", to.Addr+"/afar", part).Expect(t, 0, index.String()) // where all of it is

	addr := kit.FreePort(t)
	r := kit.ServeAt(t, addr, more)
	expectSigned(t, addr+"/two/deep", one.Digest, signed)
	expectSigned(t, addr+"/many", index, signedIndex)
	r.Signal(t, syscall.SIGINT)
	if out := r.Wait(t).Expect(t, 0).Stdout; strings.Contains(out, ".sig") {
		t.Errorf("it offers signatures as images:\n%s", out)
	}
}
