package doctor

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/registry/probe"
)

// imageFor returns an image of n layers whose config names a platform.
func imageFor(t *testing.T, n int, p *v1.Platform) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, slices.Repeat([]v1.Layer{static.NewLayer([]byte("a layer"), types.DockerUncompressedLayer)}, n)...)
	if err != nil {
		t.Fatal(err)
	}
	return testkit.For(t, img, p.String())
}

// TestManifest looks at indexes of the shapes that registries have.
func TestManifest(t *testing.T) {
	host := image.Host()
	mine := &v1.Platform{OS: host.OS, Architecture: host.Architecture, Variant: host.Variant}
	theirs := &v1.Platform{OS: "linux", Architecture: "s390x"}
	index := func(entries ...mutate.IndexAddendum) v1.ImageIndex {
		return mutate.AppendManifests(empty.Index, entries...)
	}
	of := func(p *v1.Platform, what mutate.Appendable) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: what, Descriptor: v1.Descriptor{Platform: p}}
	}
	own, other := imageFor(t, 2, mine), imageFor(t, 3, theirs)
	addr := testkit.Registry(t)
	client, err := registry.New(registry.Options{PlainHTTP: true, Keychain: authn.NewMultiKeychain(), Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, tc := range []struct {
		name  string
		index v1.ImageIndex
		level Level
		words []string
	}{
		{"flat", index(of(theirs, other), of(mine, own)), OK, []string{"it has linux/s390x, " + image.FormatPlatform(host)}},
		{"an index for each platform", index(of(theirs, index(of(theirs, other))), of(mine, index(of(mine, own)))), OK,
			[]string{"it has linux/s390x, " + image.FormatPlatform(host), "a pull takes " + image.FormatPlatform(host)}},
		{"no platforms", index(of(nil, other), of(nil, index(of(nil, own)))), OK, []string{"it has linux/s390x, " + image.FormatPlatform(host)}},
		{"none that fits", index(of(nil, index(of(nil, other)))), Problem, []string{"only for linux/s390x"}},
	} {
		testkit.Put(t, addr+"/img:1", tc.index)
		v := visiting(probe.Server{})
		v.client = client
		v.target, _ = parseTarget(addr + "/img:1")
		v.engine = engineLook{asked: true, err: errors.New("there is none")}
		m, ok := v.manifest(t.Context())
		if ok != (tc.level == OK) || ok && len(m.Layers) != 2 {
			t.Errorf("%s: %+v, %v", tc.name, m, ok)
		}
		expect(t, tc.name, v.report.Findings[len(v.report.Findings)-1], tc.level, tc.words...)
	}
}
