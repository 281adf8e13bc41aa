package daemon

import (
	"cmp"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// OSType returns the operating system of the Engine's host, as Go names it.
func (e *Engine) OSType() string { return cmp.Or(e.info.OSType, "linux") }

// Architecture returns the architecture of the Engine's host, as Go names it.
func (e *Engine) Architecture() string { return e.Platform().Architecture }

// Platform returns the platform whose images the Engine runs. An Engine names
// its machine as uname does; the result has the names that images use.
func (e *Engine) Platform() ocispec.Platform {
	p := platformOf(e.info.Architecture)
	p.OS = e.OSType()
	return p
}

func platformOf(machine string) ocispec.Platform {
	switch machine {
	case "x86_64":
		return ocispec.Platform{Architecture: "amd64"}
	case "aarch64":
		return ocispec.Platform{Architecture: "arm64"}
	case "armv5l", "armv5tel", "armv5tejl":
		return ocispec.Platform{Architecture: "arm", Variant: "v5"}
	case "armv6l":
		return ocispec.Platform{Architecture: "arm", Variant: "v6"}
	case "armv7l", "armhf", "arm", "armv8l": // armv8l is a 64-bit machine with 32-bit programs
		return ocispec.Platform{Architecture: "arm", Variant: "v7"}
	case "i386", "i486", "i586", "i686":
		return ocispec.Platform{Architecture: "386"}
	case "loongarch64":
		return ocispec.Platform{Architecture: "loong64"}
	}
	return ocispec.Platform{Architecture: machine} // ppc64le, s390x, riscv64: the same in both
}
