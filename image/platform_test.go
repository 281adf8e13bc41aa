package image

import (
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

func TestParsePlatform(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"linux/amd64", "linux/amd64"},
		{"Linux/x86_64", "linux/amd64"},
		{"linux/x86-64", "linux/amd64"},
		{"linux/amd64/v1", "linux/amd64"},
		{"linux/amd64/v3", "linux/amd64/v3"},
		{"linux/aarch64", "linux/arm64"},
		{"linux/arm64/v8", "linux/arm64"},
		{"linux/arm64/8", "linux/arm64"},
		{"linux/arm64/v9", "linux/arm64/v9"},
		{"linux/arm", "linux/arm/v7"}, // how everybody writes it
		{"linux/arm/v7", "linux/arm/v7"},
		{"linux/arm/7", "linux/arm/v7"},
		{"linux/arm/v6", "linux/arm/v6"},
		{"linux/armhf", "linux/arm/v7"},
		{"linux/armel", "linux/arm/v6"},
		{"linux/i386", "linux/386"},
		{"linux/i686", "linux/386"},
		{"windows/amd64", "windows/amd64"},
		{"linux/riscv64", "linux/riscv64"},
		{"linux", ""}, {"", ""}, {"linux/", ""}, {"/amd64", ""}, {"linux/arm/", ""}, {"linux/arm/v7/x", ""}, {"//", ""},
	} {
		p, err := ParsePlatform(tc.in)
		if tc.want == "" {
			if fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
				t.Errorf("%q: error %v", tc.in, err)
			}
			continue
		}
		if got := FormatPlatform(p); err != nil || got != tc.want {
			t.Errorf("%q: %s, %v, want %s", tc.in, got, err, tc.want)
		}
		if again := Normalize(p); FormatPlatform(again) != tc.want {
			t.Errorf("%q changes when it is normalized again: %v", tc.in, again)
		}
	}
	if h := Host(); h.OS != "linux" || h.Architecture != runtime.GOARCH {
		t.Errorf("host %v", h)
	}
}

func platform(t *testing.T, s string) ocispec.Platform {
	t.Helper()
	p, err := ParsePlatform(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRuns(t *testing.T) {
	const never, lower, best = 0, 1, 2
	for _, tc := range []struct {
		want, have string
		how        int
	}{
		{"linux/amd64", "linux/amd64", best},
		{"linux/amd64", "linux/x86_64/v1", best},
		{"linux/amd64", "linux/amd64/v2", never}, // this machine may lack its instructions
		{"linux/amd64/v3", "linux/amd64", lower},
		{"linux/amd64/v3", "linux/amd64/v2", lower},
		{"linux/amd64/v3", "linux/amd64/v4", never},
		{"linux/amd64", "linux/386", never},
		{"linux/amd64", "windows/amd64", never},
		{"linux/arm64", "linux/arm64/v8", best},
		{"linux/arm64", "linux/arm/v7", never},
		{"linux/arm64/v9", "linux/arm64", lower},
		{"linux/arm", "linux/arm/v7", best},
		{"linux/arm", "linux/arm/v6", lower},
		{"linux/arm/v6", "linux/arm/v5", lower},
		{"linux/arm/v6", "linux/arm", never},
		{"linux/386", "linux/386", best},
		{"linux/386", "linux/386/sse2", never},
		{"linux/arm/v", "linux/arm/v", best},
	} {
		got := Runs(platform(t, tc.want), platform(t, tc.have))
		how := lower
		switch {
		case got == 0:
			how = never
		case got == Runs(platform(t, tc.want), platform(t, tc.want)):
			how = best
		}
		if how != tc.how {
			t.Errorf("%s on %s: %d", tc.have, tc.want, got)
		}
	}
	if v5, v6 := Runs(platform(t, "linux/arm"), platform(t, "linux/arm/v5")), Runs(platform(t, "linux/arm"), platform(t, "linux/arm/v6")); v6 <= v5 {
		t.Errorf("v6 (%d) is not better than v5 (%d)", v6, v5)
	}
}

func TestSelect(t *testing.T) {
	const bare, attestation = "", "unknown/unknown"
	// index makes entries of platforms; each one's digest is of its position.
	index := func(platforms ...string) *Manifest {
		m := &Manifest{Manifests: []ocispec.Descriptor{}}
		for i, s := range platforms {
			d := ocispec.Descriptor{MediaType: ociManifest, Digest: digest.FromString(string(rune('a' + i)))}
			if s != bare {
				p := platform(t, s)
				d.Platform = &p
			}
			m.Manifests = append(m.Manifests, d)
		}
		return m
	}
	helm := index(bare)
	helm.Manifests[0].ArtifactType = "application/vnd.cncf.helm.chart"
	nested := index(bare)
	nested.Manifests[0].MediaType = ociIndex

	for _, tc := range []struct {
		name string
		m    *Manifest
		want string
		pick int    // -1: none
		say  string // in the error
	}{
		{"the one", index("linux/arm64", "linux/amd64"), "linux/amd64", 1, ""},
		{"the first of equals", index("linux/amd64", "linux/amd64/v1"), "linux/amd64", 0, ""},
		{"not the attestations", index(attestation, "linux/amd64", attestation), "linux/amd64", 1, ""},
		{"the best variant", index("linux/arm/v5", "linux/arm/v7", "linux/arm/v6"), "linux/arm", 1, ""},
		{"the best below", index("linux/arm/v5", "linux/arm/v7", "linux/arm/v6"), "linux/arm/v6", 2, ""},
		{"none above", index("linux/arm/v7"), "linux/arm/v6", -1, "only for linux/arm"},
		{"none", index("linux/s390x", "linux/arm64", attestation, "linux/arm64/v8"), "linux/amd64", -1, "for linux/amd64, only for linux/arm64, linux/s390x"},
		{"empty", index(), "linux/amd64", -1, "no platform"},
		{"attestations alone", index(attestation), "linux/amd64", -1, "no platform"},
		{"one that has no platform", index(bare), "linux/amd64", 0, ""},
		{"one that has no platform, and its attestation", index(attestation, bare), "linux/amd64", 1, ""},
		{"two that have none", index(bare, bare), "linux/amd64", -1, "no platform"},
		{"one that has none, one for another", index(bare, "linux/arm64"), "linux/amd64", -1, "only for linux/arm64"},
		{"one that has none, one that fits", index(bare, "linux/amd64"), "linux/amd64", 1, ""},
		{"an artifact alone", helm, "linux/amd64", -1, "no platform"},
		{"an index alone", nested, "linux/amd64", -1, "no platform"},
	} {
		d, err := tc.m.Select(platform(t, tc.want))
		if tc.pick < 0 {
			if fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), tc.say) {
				t.Errorf("%s: %v, %v", tc.name, d.Digest, err)
			}
			continue
		}
		if err != nil || d.Digest != tc.m.Manifests[tc.pick].Digest {
			t.Errorf("%s: %v, %v", tc.name, d.Platform, err)
		}
	}
}
