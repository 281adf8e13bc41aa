package image

import (
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// Host returns the platform that fastpull itself was built for, always with
// linux as its system: images of other systems are not for this program.
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

// Normalize writes a platform the one way that this program compares it: Go's
// names for architectures, and no variant where there is a usual one, but for arm,
// where people write it.
func Normalize(p ocispec.Platform) ocispec.Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
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

// FormatPlatform writes a platform as os/arch[/variant].
func FormatPlatform(p ocispec.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// usual is the variant that Normalize leaves out.
var usual = map[string]string{"amd64": "v1", "arm64": "v8"}

// Runs tells how well an image for have runs on want: 0 not at all, and
// otherwise the higher the better. A machine runs the variants below its own:
// arm/v7 runs arm/v6.
func Runs(want, have ocispec.Platform) int {
	want, have = Normalize(want), Normalize(have)
	if want.OS != have.OS || want.Architecture != have.Architecture {
		return 0
	}
	w, h := level(want), level(have)
	switch {
	case w == h:
		return 1000
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

// Select picks the manifest of an index that runs best on the wanted platform.
// An image that is alone in its index needs no platform: its config has one.
// If there is none the error, of kind [fault.NotFound], lists those that are.
func (m *Manifest) Select(want ocispec.Platform) (ocispec.Descriptor, error) {
	var best ocispec.Descriptor
	var score int
	var have []string
	var bare []ocispec.Descriptor // of no platform
	for _, d := range m.Manifests {
		switch {
		case d.Platform == nil:
			if isManifest(d) {
				bare = append(bare, d)
			}
			continue
		case d.Platform.OS == "unknown":
			continue // an attestation, or something else that is no image
		}
		if s := Runs(want, *d.Platform); s > score {
			best, score = d, s
		}
		have = append(have, FormatPlatform(Normalize(*d.Platform)))
	}
	if score > 0 {
		return best, nil
	}
	slices.Sort(have)
	have = slices.Compact(have)
	if len(have) == 0 && len(bare) == 1 {
		return bare[0], nil
	}
	if len(have) == 0 {
		return best, fault.New(fault.NotFound, "the index names no platform at all")
	}
	return best, fault.WithHint(
		fault.New(fault.NotFound, "there is no image for %s, only for %s", FormatPlatform(want), strings.Join(have, ", ")),
		"choose one of them with --platform")
}

// isManifest tells an entry of an index that can be an image.
func isManifest(d ocispec.Descriptor) bool {
	return d.ArtifactType == "" && (d.MediaType == "" || d.MediaType == typeDockerManifest || d.MediaType == ocispec.MediaTypeImageManifest)
}
