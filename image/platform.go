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
		p.Architecture, p.Variant = "386", ""
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	switch p.Architecture {
	case "amd64", "arm", "arm64":
		if p.Variant != "" && p.Variant[0] >= '1' && p.Variant[0] <= '9' {
			p.Variant = "v" + p.Variant
		}
	}
	switch p.Architecture + "/" + p.Variant {
	case "amd64/v1", "arm64/v8", "arm64/v8.0":
		p.Variant = ""
	case "arm64/v9.0":
		p.Variant = "v9"
	case "arm/":
		p.Variant = "v7"
	}
	return p
}

// Complete returns p in the form of [Normalize]. If p has no system or no architecture, that of
// the first of others that has one is used.
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
// has no architecture. Features that it asks for follow the system: linux(+erofs)/amd64.
func FormatPlatform(p ocispec.Platform) string {
	s := p.OS
	if len(p.OSFeatures) > 0 {
		s += "(+" + strings.Join(p.OSFeatures, "+") + ")"
	}
	if p.Architecture == "" {
		return s
	}
	s += "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}
