//go:build e2e

package serve

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fastpull/fastpull/e2e/engines"
	"github.com/fastpull/fastpull/e2e/kit"
)

// TestConformance runs the conformance suite of the OCI distribution specification against a
// bundle that is served, and against a store. The suite cannot push there, so it is told
// which images, artifacts and referrers there are.
func TestConformance(t *testing.T) {
	t.Parallel()
	suite, err := engines.Conformance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	docker := kit.MakeImage(t, kit.ImageSpec{Platform: "linux/amd64", Layers: []kit.Layer{kit.SmallLayer(t, "word", "docker\n"), kit.NoiseLayer(t, 1<<20, 1)}})
	amd := kit.MakeImage(t, kit.ImageSpec{OCI: true, Platform: "linux/amd64", Layers: []kit.Layer{kit.SmallLayer(t, "word", "amd64\n")}})
	arm := kit.MakeImage(t, kit.ImageSpec{OCI: true, Platform: "linux/arm64", Layers: []kit.Layer{kit.SmallLayer(t, "word", "arm64\n")}})
	refs := []string{reg.Push(t, "team/img:docker", docker)}
	index, _ := reg.PushIndex(t, "team/img:index", amd, arm)
	refs = append(refs, index)
	head, err := remote.Head(kit.ParseRef(t, index))
	if err != nil {
		t.Fatal(err)
	}
	signed := reg.Sign(t, "team/img", *head)

	t.Run("Bundle", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "b.tar")
		kit.Fastpull(t, append([]string{"bundle", "-o", file, "--layers=keep", "--platform=all", "--referrers"}, refs...)...).Expect(t, 0)
		addr := kit.FreePort(t)
		kit.ServeAt(t, addr, file)
		var manifests, blobs []v1.Hash
		for _, im := range []kit.Image{docker, amd, arm} {
			manifests, blobs = append(manifests, im.Digest), append(blobs, im.ID)
			for _, l := range im.Layers {
				blobs = append(blobs, l.Digest)
			}
		}
		for _, d := range signed {
			manifests = append(manifests, d.Digest)
		}
		conforms(t, suite, addr, contents{
			tags: []string{"docker", "index"}, manifests: append(manifests, head.Digest), blobs: blobs,
			subjects: []v1.Hash{head.Digest, signed[0].Digest, amd.Digest},
		})
	})
	t.Run("Store", func(t *testing.T) {
		store := filepath.Join(t.TempDir(), "store")
		kit.Fastpull(t, append([]string{"--store", store, "--platform=linux/amd64"}, refs...)...).Expect(t, 0)
		addr := kit.FreePort(t)
		kit.ServeAt(t, addr, store)
		h := contents{tags: []string{"docker", "index"}}
		for i, im := range []kit.Image{docker, amd} {
			made, err := remote.Head(kit.ParseRef(t, addr+"/team/img:"+h.tags[i]))
			if err != nil {
				t.Fatal(err)
			}
			h.manifests, h.blobs = append(h.manifests, made.Digest), append(h.blobs, im.ID)
			for _, l := range im.Layers {
				h.blobs = append(h.blobs, l.DiffID)
			}
		}
		h.subjects = h.manifests[:1]
		conforms(t, suite, addr, h)
	})
}

// contents is what the repository team/img of a registry has, for the suite to ask for.
type contents struct {
	tags                       []string
	manifests, blobs, subjects []v1.Hash
}

// cases returns how many cases of the suite ask for what is there.
func (h contents) cases() int { return 2 * (len(h.tags) + len(h.manifests) + len(h.blobs)) }

// notApplicable are the cases that the suite leaves out, since they change a registry.
// docs/commands.md says the same.
var notApplicable = regexp.MustCompile(`/sha(256|512) blobs$|/read-only/(push|delete)(/|$)|/invalid-digest-format/(manifest-put|delete)(/|$)`)

// outcome is a line of the suite's report: a case, and what came of it.
var outcome = regexp.MustCompile(`(?m)^ *OCI Conformance Test(/\S.*)?: (\w+)$`)

// conforms runs the suite, and fails for a case that failed, for one that was left out
// without a reason, and where a case is missing.
func conforms(t *testing.T, suite, addr string, h contents) {
	t.Helper()
	list := func(name string, hashes []v1.Hash) string {
		var words []string
		for _, x := range hashes {
			words = append(words, x.String())
		}
		return name + "=" + strings.Join(words, " ")
	}
	cmd := exec.CommandContext(t.Context(), suite)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(),
		"OCI_REGISTRY="+addr, "OCI_TLS=disabled", "OCI_REPO1=team/img", "OCI_REPO2=team/none", "OCI_VERSION=1.1",
		"OCI_API_PUSH=false", "OCI_API_TAGS_DELETE=false", "OCI_API_MANIFESTS_DELETE=false", "OCI_API_BLOBS_DELETE=false",
		"OCI_RO_DATA_TAGS="+strings.Join(h.tags, " "), list("OCI_RO_DATA_MANIFESTS", h.manifests), list("OCI_RO_DATA_BLOBS", h.blobs), list("OCI_RO_DATA_REFERRERS", h.subjects))
	cmd.WaitDelay = 10 * time.Second
	// How it ends is of no use: without pushes it crashes when all is reported.
	out, _ := cmd.CombinedOutput()
	report := string(out)
	passed := 0
	for _, m := range outcome.FindAllStringSubmatch(report, -1) {
		switch name, status := m[1], m[2]; {
		case status == "Pass":
			passed++
		case status == "Disabled" && notApplicable.MatchString(name):
		default:
			t.Errorf("%s: %s", name, status)
		}
	}
	if passed < h.cases() || !strings.Contains(report, "OCI Conformance Result: Pass") {
		t.Errorf("%d cases have passed, and %d ask for what is there\n%s", passed, h.cases(), report)
	}
}
