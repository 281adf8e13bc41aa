package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(h[:])
}

// configOf writes a config with n layers, and returns their diffIDs.
func configOf(n int) (config []byte, diffIDs []string) {
	for i := range n {
		diffIDs = append(diffIDs, sum(fmt.Sprint("layer ", i)))
	}
	list, _ := json.Marshal(diffIDs)
	if n == 0 {
		list = []byte("[]")
	}
	return fmt.Appendf(nil, `{"architecture":"aarch64","os":"Linux","variant":"v8","created":"2024-02-03T04:05:06.7Z","rootfs":{"type":"layers","diff_ids":%s}}`, list), diffIDs
}

func TestParse(t *testing.T) {
	config, diffIDs := configOf(3)
	img, err := Parse(config)
	if err != nil {
		t.Fatal(err)
	}
	if want := sum(string(config)); img.ID.String() != want || !bytes.Equal(img.Config, config) {
		t.Errorf("ID %s, want %s", img.ID, want)
	}
	if got := FormatPlatform(img.Platform); got != "linux/arm64" {
		t.Errorf("platform %s", got)
	}
	if want := time.Date(2024, 2, 3, 4, 5, 6, 7e8, time.UTC); !img.Created.Equal(want) {
		t.Errorf("created %s", img.Created)
	}
	// The chain by hand: each is the digest of the one below, a space, the diffID.
	chain := diffIDs[0]
	parent := ""
	for i, l := range img.Layers {
		if i > 0 {
			parent = chain
			chain = sum(chain + " " + diffIDs[i])
		}
		if l.DiffID.String() != diffIDs[i] || l.ChainID.String() != chain || l.Parent.String() != parent {
			t.Errorf("layer %d: %+v, want chain %s on %s", i, l, chain, parent)
		}
		if l.Blob.Digest != "" {
			t.Errorf("layer %d has a blob out of nowhere", i)
		}
	}
	if len(img.Layers) != 3 {
		t.Errorf("%d layers", len(img.Layers))
	}
}

// The base layer's chain is its diffID itself.
func TestChainOfOne(t *testing.T) {
	config, diffIDs := configOf(1)
	img, err := Parse(config)
	if err != nil || img.Layers[0].ChainID.String() != diffIDs[0] || img.Layers[0].Parent != "" {
		t.Errorf("%+v, %v", img, err)
	}
}

func TestParseErrors(t *testing.T) {
	many, _ := configOf(1000)
	none, _ := configOf(0)
	for _, tc := range []struct {
		name   string
		config []byte
		kind   fault.Kind
	}{
		{"many layers", many, 0},
		{"no layers", none, 0},
		{"no rootfs", []byte(`{}`), 0},
		{"no JSON", []byte(`{`), fault.Corrupt},
		{"bad diffID", []byte(`{"rootfs":{"diff_ids":["sha256:../x"]}}`), fault.Corrupt},
		{"empty diffID", []byte(`{"rootfs":{"diff_ids":[""]}}`), fault.Corrupt},
		{"sha384 diffID", []byte(`{"rootfs":{"diff_ids":["sha384:` + hex128[:96] + `"]}}`), fault.Corrupt},
		{"no time", []byte(`{"created":"yesterday"}`), 0},
		{"a number for a time", []byte(`{"created":5}`), 0},
		{"null time", []byte(`{"created":null}`), 0},
	} {
		img, err := Parse(tc.config)
		if fault.KindOf(err) != tc.kind || (img == nil) != (err != nil) {
			t.Errorf("%s: error %v, want kind %d", tc.name, err, tc.kind)
		}
	}
}

func TestNew(t *testing.T) {
	config, _ := configOf(2)
	layers := []ocispec.Descriptor{{Digest: digest.Digest("sha256:" + hex64), Size: 30}, {Digest: digest.Digest("sha512:" + hex128), Size: 12}}
	cfg := func(d digest.Digest) ocispec.Descriptor { return ocispec.Descriptor{Digest: d} }

	img, err := New(&Manifest{Config: cfg(digest.FromBytes(config)), Layers: layers}, config)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range img.Layers {
		if l.Blob.Digest != layers[i].Digest {
			t.Errorf("layer %d has the blob %s", i, l.Blob.Digest)
		}
	}
	if img.Size() != 42 {
		t.Errorf("size %d", img.Size())
	}
	if img, err := New(&Manifest{Config: cfg(digest.SHA512.FromBytes(config)), Layers: layers}, config); err != nil || img.ID != digest.FromBytes(config) {
		t.Errorf("a config by sha512: %v", err)
	}

	for _, tc := range []struct {
		name string
		m    *Manifest
		say  string
	}{
		{"another config", &Manifest{Config: cfg(digest.FromString("x")), Layers: layers}, "hashes to"},
		{"another config by sha512", &Manifest{Config: cfg(digest.SHA512.FromString("x")), Layers: layers}, "hashes to"},
		{"too few layers", &Manifest{Config: cfg(digest.FromBytes(config)), Layers: layers[:1]}, "1 layers"},
		{"no layers", &Manifest{Config: cfg(digest.FromBytes(config))}, "0 layers"},
		{"too many layers", &Manifest{Config: cfg(digest.FromBytes(config)), Layers: append(layers, layers...)}, "4 layers"},
		{"an index", &Manifest{Manifests: layers}, "index"},
	} {
		if _, err := New(tc.m, config); fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
