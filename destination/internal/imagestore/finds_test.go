package imagestore

import (
	"runtime"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestOpens has the entries of an index in several orders.
func TestOpens(t *testing.T) {
	entry := func(name, os, arch string) ocispec.Descriptor {
		d := ocispec.Descriptor{Digest: digest.FromString(name)}
		if os != "" {
			d.Platform = &ocispec.Platform{OS: os, Architecture: arch}
		}
		return d
	}
	mine, other := entry("mine", "linux", runtime.GOARCH), entry("other", "linux", "s390x")
	if runtime.GOARCH == "s390x" {
		other.Platform.Architecture = "ppc64le"
	}
	bare, second, aside := entry("bare", "", ""), entry("second", "", ""), entry("aside", "unknown", "unknown")
	for i, tc := range []struct {
		entries []ocispec.Descriptor
		wanted  ocispec.Descriptor
		want    bool
	}{
		{[]ocispec.Descriptor{other, mine}, mine, true},
		{[]ocispec.Descriptor{bare, mine}, mine, true},
		{[]ocispec.Descriptor{other}, other, true}, // the user has asked for it
		{[]ocispec.Descriptor{bare}, bare, true},
		{[]ocispec.Descriptor{bare, second}, bare, true},
		{[]ocispec.Descriptor{bare, second}, second, false},
		{[]ocispec.Descriptor{other, bare, aside}, bare, true},
		{[]ocispec.Descriptor{aside, bare}, bare, true},
		{[]ocispec.Descriptor{bare, mine}, bare, false},
		{[]ocispec.Descriptor{mine}, bare, false},
		{nil, bare, false},
	} {
		if got := opens(tc.entries, tc.wanted.Digest); got != tc.want {
			t.Errorf("%d: %v", i, got)
		}
	}
}
