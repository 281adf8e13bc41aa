package testkit

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// Configured returns an image whose config was changed.
func Configured(t testing.TB, img v1.Image, change func(*v1.ConfigFile)) v1.Image {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	change(config)
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// For returns an image whose config names a platform, such as "linux/arm64/v8". It names
// none if that is "".
func For(t testing.TB, img v1.Image, platform string) v1.Image {
	t.Helper()
	p := parsePlatform(t, platform)
	return Configured(t, img, func(c *v1.ConfigFile) { c.OS, c.Architecture, c.Variant = p.OS, p.Architecture, p.Variant })
}

// Entry returns an entry of an index. Its descriptor names a platform if that is not "".
func Entry(t testing.TB, platform string, what mutate.Appendable) mutate.IndexAddendum {
	t.Helper()
	a := mutate.IndexAddendum{Add: what}
	if platform != "" {
		a.Descriptor.Platform = parsePlatform(t, platform)
	}
	return a
}

func parsePlatform(t testing.TB, platform string) *v1.Platform {
	t.Helper()
	if platform == "" {
		return &v1.Platform{}
	}
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
