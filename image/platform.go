package image

import (
	"cmp"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// Host returns the platform that fastpull was built for. Its system is always linux,
// since fastpull does not handle images for other systems.
func Host() ocispec.Platform {
	return Normalize(ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH})
}

// ParsePlatform reads os/arch[/variant]. Its errors are of kind [fault.Usage].
func ParsePlatform(s string) (ocispec.Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return ocispec.Platform{}, fault.WithHint(
			fault.New(fault.Usage, "%q is no platform", s),
			"write it as os/arch or os/arch/variant, such as linux/arm64 or linux/arm/v7")
	}
	p := ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return Normalize(p), nil
}

// Normalize returns a platform in the form in which fastpull compares it. Architectures
// have Go's names. A variant that is usual for its architecture is left out, except for
// arm, where it is always written. A platform without a system is one for linux: builders
// that start from an empty config leave it out.
func Normalize(p ocispec.Platform) ocispec.Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	p.OS = cmp.Or(p.OS, "linux")
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "i386", "i686":
		p.Architecture = "386"
	case "armhf":
		p.Architecture = "arm"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	if p.Variant != "" && p.Variant[0] >= '1' && p.Variant[0] <= '9' {
		p.Variant = "v" + p.Variant
	}
	switch {
	case p.Architecture == "amd64" && p.Variant == "v1", p.Architecture == "arm64" && p.Variant == "v8":
		p.Variant = ""
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	}
	return p
}

// Complete returns p in the form of [Normalize]. A system or an architecture that p lacks
// is that of the first of others that has one.
func Complete(p ocispec.Platform, others ...ocispec.Platform) ocispec.Platform {
	for _, o := range others {
		p.OS = cmp.Or(p.OS, o.OS)
		if p.Architecture == "" {
			p.Architecture, p.Variant = o.Architecture, o.Variant
		}
	}
	return Normalize(p)
}

// FormatPlatform returns a platform as os/arch[/variant], or as its system alone if it
// has no architecture.
func FormatPlatform(p ocispec.Platform) string {
	if p.Architecture == "" {
		return p.OS
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// usual is the variant that Normalize leaves out.
var usual = map[string]string{"amd64": "v1", "arm64": "v8"}

// runsBest is what [Runs] returns for the very platform that is wanted.
const runsBest = 1000

// Runs tells how well an image for have runs on want. It returns 0 if it does not run
// there, and otherwise more for a better image. A machine runs the variants below its
// own: arm/v7 runs arm/v6. A platform without an architecture stands for every one.
func Runs(want, have ocispec.Platform) int {
	want, have = Normalize(want), Normalize(have)
	switch {
	case want.OS != have.OS:
		return 0
	case want.Architecture == "" || have.Architecture == "":
		return runsBest
	case want.Architecture != have.Architecture:
		return 0
	}
	w, h := level(want), level(have)
	switch {
	case w == h:
		return runsBest
	case strings.HasPrefix(w, "v") && strings.HasPrefix(h, "v") && h < w && len(h) == len(w):
		return 1 + int(h[1]-'0')
	}
	return 0
}

func level(p ocispec.Platform) string {
	if p.Variant == "" {
		return usual[p.Architecture]
	}
	return p.Variant
}
