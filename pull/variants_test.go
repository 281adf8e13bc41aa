package pull

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/progress"
)

// TestStoreVariants pulls one variant of an index after another into a store. What the store
// has for a lower variant is not what is wanted.
func TestStoreVariants(t *testing.T) {
	s := serve(t)
	ref, _ := pushIndex(t, s, "img:tag", "linux/arm/v6", "linux/arm/v7", "linux/arm64")
	dir := filepath.Join(t.TempDir(), "store")
	for _, tc := range []struct {
		platform, want string
		status         Status
	}{
		{"linux/arm/v6", "linux/arm/v6", Pulled},
		{"linux/arm/v7", "linux/arm/v7", Pulled},
		{"linux/arm/v7", "linux/arm/v7", Exists},
		{"linux/arm64", "linux/arm64", Pulled},
		{"linux/arm/v8", "linux/arm/v7", Exists},
	} {
		p, err := image.ParsePlatform(tc.platform)
		if err != nil {
			t.Fatal(err)
		}
		o := storeOptions(dir, ref)
		o.Platform = &p
		sum, err := pull(t, t.Context(), o)
		if err != nil || sum.Images[0].Platform != tc.want || sum.Images[0].Status != tc.status {
			t.Errorf("%s: %+v, %v, want %s, %s", tc.platform, sum.Images, err, tc.want, tc.status)
		}
	}
}

// TestOtherArchitecture pulls what a machine runs as well, and says so.
func TestOtherArchitecture(t *testing.T) {
	s := serve(t)
	ref, _ := pushIndex(t, s, "img:tag", "linux/386", "linux/arm/v6")
	for platform, want := range map[string]string{"linux/amd64": "linux/386", "linux/arm64": "linux/arm/v6"} {
		p, err := image.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		o := storeOptions(filepath.Join(t.TempDir(), "store"), ref)
		o.Platform = &p
		o.Progress = progress.New(progress.Options{Mode: progress.Plain, Out: &said})
		sum, err := pull(t, t.Context(), o)
		o.Progress.Close()
		if err != nil || sum.Images[0].Platform != want || !strings.Contains(said.String(), "is for "+want+", which "+platform+" runs as a rule") {
			t.Errorf("%s: %+v, %v\n%s", platform, sum.Images, err, &said)
		}
	}
}
