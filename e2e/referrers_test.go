//go:build e2e

package e2e

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
)

// expectSigned looks for what sign has made, as those do who verify it.
func expectSigned(t *testing.T, repo string, subject v1.Hash, want []v1.Descriptor) {
	t.Helper()
	for _, step := range []struct {
		of   string
		want v1.Descriptor
	}{{subject.String(), want[0]}, {want[0].Digest.String(), want[1]}} {
		index, err := remote.Referrers(parseRef(t, repo+"@"+step.of).Context().Digest(step.of))
		if err != nil {
			t.Errorf("what refers to %s in %s: %v", step.of, repo, err)
			continue
		}
		m, err := index.IndexManifest()
		if err != nil || len(m.Manifests) != 1 || m.Manifests[0].Digest != step.want.Digest {
			t.Errorf("what refers to %s in %s: %+v, %v", step.of, repo, m, err)
		}
	}
	img, err := remote.Image(parseRef(t, repo+":sha256-"+subject.Hex+".sig"))
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
	s := newShipment(t)
	one := v1.Descriptor{MediaType: s.images[1].mediaType, Digest: s.images[1].digest, Size: int64(len(s.images[1].manifest))}
	signed := s.reg.sign(t, "two/deep", one)
	both := []image{
		makeImage(t, imageSpec{oci: true, platform: "linux/amd64", layers: []layer{smallLayer(t, "word", "amd64\n")}}),
		makeImage(t, imageSpec{oci: true, platform: "linux/arm64", layers: []layer{smallLayer(t, "word", "arm64\n")}}),
	}
	ref, index := s.reg.pushIndex(t, "many:1", both...)
	head, err := remote.Head(parseRef(t, ref))
	if err != nil {
		t.Fatal(err)
	}
	signedIndex := s.reg.sign(t, "many", *head)

	fastpull(t, "bundle", "-o", filepath.Join(t.TempDir(), "x.tar"), "--referrers", s.refs[1]).expect(t, 2, "--layers=keep")
	file := s.bundle(t, "--layers=keep", "--referrers")
	fastpull(t, "verify", file).expect(t, 0)
	fastpull(t, "inspect", file).expect(t, 0, "Referrer:  "+signed[1].Digest.String(), "application/sbom")
	run(t, "cmp", file, s.bundle(t, "--layers=keep", "--referrers", "--jobs=1"))
	var list struct {
		Images, Referrers []struct{ Manifest string }
	}
	if data, err := os.ReadFile(file + ".json"); err != nil || json.Unmarshal(data, &list) != nil || len(list.Images) != 3 || len(list.Referrers) != 3 {
		t.Errorf("the list: %v\n%s", err, data)
	}
	d := startDockerd(t, dockerdOptions{})
	d.must(t, "load", "-i", file)
	for i, ref := range s.refs {
		if got := d.inspect(t, ref).ID; got != s.images[i].id.String() {
			t.Errorf("%s has the ID %s, want %s", ref, got, s.images[i].id)
		}
	}
	s.imported(t, d, file, "keep")
	s.podman(t, file)
	s.skopeo(t, file, "keep")
	if sum := fastpull(t, "load", "--store", filepath.Join(t.TempDir(), "store"), "--json", file).expect(t, 0).summary(t); len(sum.Images) != 3 {
		t.Errorf("loaded: %+v", sum.Images)
	}

	// What is new since then, with referrers of an index.
	more := filepath.Join(t.TempDir(), "more.tar")
	fastpull(t, "bundle", "-o", more, "--layers=keep", "--referrers", "--platform=all", "--since", file, ref, s.refs[1]).expect(t, 0)
	fastpull(t, "verify", more).expect(t, 0)
	fastpull(t, "bundle", "-o", filepath.Join(t.TempDir(), "one.tar"), "--layers=keep", "--referrers", "--platform=linux/arm64", ref).expect(t, 0, "its index are left out")

	to := startRegistry(t, registryOptions{})
	for range 2 {
		fastpull(t, "push", "--to", to.addr+"/afar", file).expect(t, 0, "with 3 that refer to it")
		fastpull(t, "push", "--to", to.addr+"/afar", more).expect(t, 0)
	}
	expectSigned(t, to.addr+"/afar/two/deep", one.Digest, signed)
	expectSigned(t, to.addr+"/afar/many", index, signedIndex)

	// An archive that has one platform of an index.
	part := filepath.Join(t.TempDir(), "part.tar")
	d.ctr(t, "images", "pull", "--plain-http", ref)
	d.ctr(t, "images", "export", part, ref)
	own := both[0]
	if runtime.GOARCH == "arm64" {
		own = both[1]
	}
	fastpull(t, "push", "--to", to.addr+"/part", part).expect(t, 0, "lacking", own.digest.String())
	fastpull(t, "push", "--to", to.addr+"/afar", part).expect(t, 0, index.String()) // where all of it is

	addr := freePort(t)
	r := serveAt(t, addr, more)
	expectSigned(t, addr+"/two/deep", one.Digest, signed)
	expectSigned(t, addr+"/many", index, signedIndex)
	r.signal(t, syscall.SIGINT)
	if out := r.wait(t).expect(t, 0).stdout; strings.Contains(out, ".sig") {
		t.Errorf("it offers signatures as images:\n%s", out)
	}
}
