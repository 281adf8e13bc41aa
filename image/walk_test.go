package image

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// named returns entries whose digests are those of their names.
func named(names ...string) (list []ocispec.Descriptor) {
	for _, n := range names {
		list = append(list, ocispec.Descriptor{Digest: digest.FromString(n)})
	}
	return list
}

func TestWalk(t *testing.T) {
	amd64, arm64 := platform(t, "linux/amd64"), platform(t, "linux/arm64")
	top := named("a", "index", "b", "index")
	top[1].Platform, top[3].Platform = &amd64, &arm64
	inner := named("c", "deep")
	deep := named("d")
	index := map[digest.Digest][]ocispec.Descriptor{top[1].Digest: inner, inner[1].Digest: deep}

	var paths, above, within []string
	if err := Walk(top, func(e Entry) ([]ocispec.Descriptor, error) {
		paths = append(paths, fmt.Sprint(e.Path))
		if e.Above != nil {
			above = append(above, FormatPlatform(*e.Above))
		}
		if e.Digest == deep[0].Digest {
			within = append(within, fmt.Sprint(e.In))
		}
		if d := e.Flat(); e.Digest == deep[0].Digest && d.Platform != e.Above {
			t.Errorf("flat it is for %v", d.Platform)
		}
		return index[e.Digest], nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(paths, ""); got != "[0][1][1 0][1 1][1 1 0][2][3][3 0][3 1][3 1 0]" {
		t.Errorf("paths %s", got)
	}
	if got := strings.Join(above, " "); got != strings.TrimSpace(strings.Repeat("linux/amd64 ", 3)+strings.Repeat("linux/arm64 ", 3)) {
		t.Errorf("above are %s", got)
	}

	if want := fmt.Sprint([]digest.Digest{top[1].Digest, inner[1].Digest}); !slices.Equal(within, []string{want, want}) {
		t.Errorf("within %s, want %s", within, want)
	}

	stop := errors.New("stop")
	n := 0
	if err := Walk(top, func(Entry) ([]ocispec.Descriptor, error) { n++; return nil, stop }); err != stop || n != 1 {
		t.Errorf("%v after %d entries", err, n)
	}
}

// TestWalkEnds has indexes that lead to more than memory and time allow.
func TestWalkEnds(t *testing.T) {
	// wide is an index that has itself in it, which no index of true digests can.
	wide := slices.Repeat(named("wide"), 300)
	for _, tc := range []struct {
		name string
		deep int // levels of indexes
		list []ocispec.Descriptor
		say  string
	}{
		{"as deep as allowed", maxDepth, wide[:1], ""},
		{"deeper", maxDepth + 1, wide[:1], "nested more than 4 deep"},
		{"a cycle", 1 << 30, wide[:1], "nested more than 4 deep"},
		{"wide", maxDepth, wide, "more than 65536 entries"},
	} {
		n := 0
		err := Walk(tc.list, func(e Entry) ([]ocispec.Descriptor, error) {
			n++
			if len(e.Path) > tc.deep {
				return nil, nil
			}
			return tc.list, nil
		})
		if tc.say == "" && err != nil || tc.say != "" && (fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), tc.say)) || n > maxEntries {
			t.Errorf("%s: %v after %d entries", tc.name, err, n)
		}
	}
}
