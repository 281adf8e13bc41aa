package image

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// runsBest is what [Runs] returns for the very platform that is wanted.
const runsBest = 1000

// Runs rates how well an image for the platform have runs on a machine of the platform want. It
// returns 0 if the image does not run there, and a higher number for a better image. The rules
// are those of containerd and Docker:
//
//   - A machine runs the variants below its own. Machines of arm64 also run images for arm, and
//     those of amd64 images for 386.
//   - A platform without an architecture stands for every one.
//   - An image that asks for features of the system (os.features) does not run. Linux images
//     that have them are for other clients.
func Runs(want, have ocispec.Platform) int {
	want, have = Normalize(want), Normalize(have)
	switch {
	case want.OS != have.OS || len(have.OSFeatures) > 0:
		return 0
	case want.Architecture == "" || have.Architecture == "":
		return runsBest
	}
	i := slices.Index(runnable(want.Architecture, want.Variant), machine{have.Architecture, have.Variant})
	if i < 0 {
		return 0
	}
	return runsBest - i
}

// IsFor reports whether an image for have is one for the very platform that is wanted.
func IsFor(want, have ocispec.Platform) bool { return Runs(want, have) == runsBest }

// machine is an architecture and a variant of it, as [Normalize] writes them.
type machine struct{ architecture, variant string }

// runnable returns the machines whose programs one runs, itself first and the worst last.
func runnable(architecture, variant string) []machine {
	list := []machine{{architecture, variant}}
	add := func(architecture, variant string) {
		p := Normalize(ocispec.Platform{Architecture: architecture, Variant: variant})
		if m := (machine{p.Architecture, p.Variant}); !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	switch major, minor := version(variant); architecture {
	case "amd64":
		for ; major >= 1; major-- {
			add("amd64", fmt.Sprintf("v%d", major))
		}
		add("386", "")
	case "arm":
		for ; major >= 5; major-- {
			add("arm", fmt.Sprintf("v%d", major))
		}
	case "arm64":
		if variant == "" {
			major = 8
		}
		if major == 9 {
			for n := minor; n >= 0; n-- {
				add("arm64", fmt.Sprintf("v9.%d", n))
			}
			major, minor = 8, min(minor+5, 9) // v9.0 has what v8.5 has
		}
		if major == 8 {
			for ; minor >= 0; minor-- {
				add("arm64", fmt.Sprintf("v8.%d", minor))
			}
			for n := 8; n >= 5; n-- {
				add("arm", fmt.Sprintf("v%d", n))
			}
		}
	}
	return list
}

// version returns the numbers of a variant such as v7 or v8.2, zeros if it has none.
func version(variant string) (major, minor int) {
	first, second, _ := strings.Cut(strings.TrimPrefix(variant, "v"), ".")
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil || n > 9 {
			return 0
		}
		return n
	}
	return number(first), number(second)
}
