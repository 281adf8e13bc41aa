package image

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// wanted are the platforms for which [TestLikeContainerd] chooses.
var wanted = []string{
	"linux/amd64", "linux/amd64/v2", "linux/amd64/v3", "linux/amd64/v4", "linux/386",
	"linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm/v8", "linux/arm",
	"linux/arm64", "linux/arm64/v8", "linux/arm64/v8.2", "linux/arm64/v9", "linux/arm64/v9.3",
	"linux/riscv64", "linux/s390x", "linux/ppc64le", "linux/mips64le",
}

// offered are the platforms that entries of its indexes name: spelled as builders do, and
// otherwise; without a system; for other systems; with features.
var offered = []ocispec.Platform{
	{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "amd64", Variant: "v1"}, {OS: "linux", Architecture: "amd64", Variant: "v2"},
	{OS: "linux", Architecture: "amd64", Variant: "v3"}, {OS: "Linux", Architecture: "x86_64"}, {OS: "linux", Architecture: "AMD64"}, {Architecture: "amd64"},
	{OS: "linux", Architecture: "386"}, {OS: "linux", Architecture: "i386"}, {OS: "linux", Architecture: "386", Variant: "sse2"},
	{OS: "linux", Architecture: "arm"}, {OS: "linux", Architecture: "arm", Variant: "v5"}, {OS: "linux", Architecture: "arm", Variant: "v6"},
	{OS: "linux", Architecture: "arm", Variant: "v7"}, {OS: "linux", Architecture: "arm", Variant: "7"}, {OS: "linux", Architecture: "arm", Variant: "v8"},
	{OS: "linux", Architecture: "armhf"}, {OS: "linux", Architecture: "armel"}, {Architecture: "arm", Variant: "v6"},
	{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}, {OS: "linux", Architecture: "arm64", Variant: "8"},
	{OS: "linux", Architecture: "arm64", Variant: "v8.1"}, {OS: "linux", Architecture: "arm64", Variant: "v8.5"}, {OS: "linux", Architecture: "arm64", Variant: "v9"},
	{OS: "linux", Architecture: "arm64", Variant: "v9.2"}, {OS: "linux", Architecture: "aarch64"}, {OS: "linux", Architecture: "arm64", Variant: "odd"},
	{OS: "linux", Architecture: "riscv64"}, {OS: "linux", Architecture: "s390x"}, {OS: "linux", Architecture: "ppc64le"}, {OS: "linux", Architecture: "mips64le"},
	{OS: "windows", Architecture: "amd64"}, {OS: "windows", Architecture: "amd64", OSVersion: "10.0.17763.1"}, {OS: "Windows", Architecture: "arm64"},
	{OS: "windows", Architecture: "amd64", OSFeatures: []string{"win32k"}}, {OS: "darwin", Architecture: "arm64"}, {OS: "freebsd", Architecture: "amd64"},
	{OS: "linux", Architecture: "amd64", OSFeatures: []string{"erofs"}}, {OS: "linux", Architecture: "arm64", OSFeatures: []string{"erofs"}},
	{OS: "linux", Architecture: "amd64", OSVersion: "6.1"}, {OS: "unknown", Architecture: "unknown"},
}

// TestLikeContainerd chooses from indexes by chance, and expects the entry that containerd's
// package platforms finds best for a machine; of equals one that names its platform, and the
// first of those.
//
// containerd ranks entries so that name their platforms, and takes the others, whose configs
// it reads, only if none of them fits. fastpull ranks all by what they are for: that is the
// one difference, and it is meant.
func TestLikeContainerd(t *testing.T) {
	s := newShelf(t)
	chance := rand.New(rand.NewPCG(18, 2026))
	differs := 0
	for n := range 800 {
		want, err := platforms.Parse(wanted[n%len(wanted)])
		if err != nil {
			t.Fatal(err)
		}
		var entries []ocispec.Descriptor
		var are []ocispec.Platform
		for i := range 1 + chance.IntN(9) {
			p := offered[chance.IntN(len(offered))]
			d := s.imageFor(fmt.Sprintf("%d/%d", n, i), p)
			if chance.IntN(5) > 0 || len(p.OSFeatures) > 0 {
				d.Platform = &p
			}
			entries, are = append(entries, d), append(are, p)
		}
		best, containerds := ranked(platforms.Only(want), entries, are)
		if best != containerds {
			differs++
		}
		got := -1
		leaf, err := s.tree(s.index(fmt.Sprint("index ", n), entries...)).Select(t.Context(), Normalize(want))
		if err == nil {
			got = slices.IndexFunc(entries, func(d ocispec.Descriptor) bool { return d.Digest == leaf.Entry.Digest })
		}
		if got != best {
			var list strings.Builder
			for i, p := range are {
				fmt.Fprintf(&list, "\n%d: %s (named: %v)", i, platforms.FormatAll(p), entries[i].Platform != nil)
			}
			t.Errorf("index %d for %s: fastpull takes %d (%v), want %d of%s", n, platforms.Format(want), got, err, best, &list)
		}
	}
	if differs == 0 {
		t.Error("no index shows the difference that is meant")
	}
}

// ranked returns which entry is the best for a machine, and which containerd takes; -1 for
// none.
func ranked(machine platforms.MatchComparer, entries []ocispec.Descriptor, are []ocispec.Platform) (best, containerds int) {
	var order []int
	for i, p := range are {
		if machine.Match(p) {
			order = append(order, i)
		}
	}
	if len(order) == 0 {
		return -1, -1
	}
	named := func(a, b int) int {
		return strings.Compare(fmt.Sprint(entries[a].Platform == nil), fmt.Sprint(entries[b].Platform == nil))
	}
	better := func(a, b int) int {
		switch {
		case machine.Less(are[a], are[b]):
			return -1
		case machine.Less(are[b], are[a]):
			return 1
		}
		return 0
	}
	first := func(by func(a, b int) int) int { return slices.MinFunc(order, by) }
	best = first(func(a, b int) int { return cmp.Or(better(a, b), named(a, b)) })
	containerds = first(func(a, b int) int {
		if entries[a].Platform == nil && entries[b].Platform == nil {
			return 0
		}
		return cmp.Or(named(a, b), better(a, b))
	})
	return best, containerds
}

// TestNotLikeContainerd has what containerd takes otherwise, or not at all: variants that its
// package does not know, and ways to write them.
func TestNotLikeContainerd(t *testing.T) {
	for _, tc := range []struct {
		want, have   ocispec.Platform
		ours, theirs bool
		why          string
	}{
		{ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "odd"}, ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "odd"}, true, false, "it is the very platform"},
		{ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"}, ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: "3"}, true, false, "as arm/7 is arm/v7"},
		{ocispec.Platform{OS: "linux", Architecture: "arm64"}, ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8.0"}, true, true, "v8.0 is v8"},
		{ocispec.Platform{OS: "linux", Architecture: "386"}, ocispec.Platform{OS: "linux", Architecture: "i686"}, true, false, "a name of 386"},
		{ocispec.Platform{OS: "linux", Architecture: "amd64"}, ocispec.Platform{OS: "linux"}, true, false, "a config that names no architecture is for all"},
		{ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v12"}, ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v11"}, false, true, "there are none"},
	} {
		if ours, theirs := Runs(tc.want, tc.have) > 0, platforms.Only(tc.want).Match(tc.have); ours != tc.ours || theirs != tc.theirs {
			t.Errorf("%s on %s (%s): fastpull %v, containerd %v", platforms.FormatAll(tc.have), platforms.FormatAll(tc.want), tc.why, ours, theirs)
		}
	}
}
