package image

import (
	"runtime"
	"testing"

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
		{"linux/armhf/v6", "linux/arm/v7"},
		{"linux/armel", "linux/arm/v6"},
		{"linux/arm64/v8.0", "linux/arm64"},
		{"linux/arm64/v8.2", "linux/arm64/v8.2"},
		{"linux/arm64/9.0", "linux/arm64/v9"},
		{"linux/i386/v1", "linux/386"},
		{"linux/riscv64/20", "linux/riscv64/20"},
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

// platform parses a platform; "" is one that says nothing.
func platform(t *testing.T, s string) ocispec.Platform {
	t.Helper()
	if s == "" {
		return ocispec.Platform{}
	}
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
		{"linux/amd64", "linux/386", lower},
		{"linux/386", "linux/amd64", never},
		{"linux/amd64", "windows/amd64", never},
		{"linux/arm64", "linux/arm64/v8", best},
		{"linux/arm64", "linux/arm/v7", lower},
		{"linux/arm64", "linux/arm/v8", lower},
		{"linux/arm/v8", "linux/arm64", never},
		{"linux/arm64/v9", "linux/arm64", lower},
		{"linux/arm64/v9", "linux/arm64/v8.5", lower},
		{"linux/arm64/v9", "linux/arm64/v8.6", never},
		{"linux/arm64/v8.2", "linux/arm64/v8.1", lower},
		{"linux/arm64/v8.1", "linux/arm64/v8.2", never},
		{"linux/arm64/v9.2", "linux/arm64/v9.1", lower},
		{"linux/arm64/odd", "linux/arm64/odd", best},
		{"linux/arm64/odd", "linux/arm/v7", never},
		{"linux/arm", "linux/arm/v7", best},
		{"linux/arm", "linux/arm/v6", lower},
		{"linux/arm/v6", "linux/arm/v5", lower},
		{"linux/arm/v6", "linux/arm", never},
		{"linux/386", "linux/386", best},
		{"linux/386", "linux/386/sse2", never},
		{"linux/arm/v", "linux/arm/v", best},
		{"linux/amd64", "", best}, // made from an empty config
		{"linux/arm/v6", "", best},
		{"windows/amd64", "", never},
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

func TestComplete(t *testing.T) {
	for _, tc := range []struct{ p, from, want string }{
		{"", "", "linux/s390x"},
		{"", "linux/arm/v6", "linux/arm/v6"},
		{"", "windows/amd64", "windows/amd64"},
		{"linux/arm64", "linux/amd64/v3", "linux/arm64"},
	} {
		if got := FormatPlatform(Complete(platform(t, tc.p), platform(t, tc.from), platform(t, "linux/s390x"))); got != tc.want {
			t.Errorf("%q of %q: %s, want %s", tc.p, tc.from, got, tc.want)
		}
	}
	if got := FormatPlatform(Complete(ocispec.Platform{Variant: "v7"}, ocispec.Platform{}, platform(t, "linux/amd64"))); got != "linux/amd64" {
		t.Errorf("a variant of no architecture: %s", got)
	}
	if got := FormatPlatform(Complete(ocispec.Platform{})); got != "linux" {
		t.Errorf("nothing at all: %s", got)
	}
}
