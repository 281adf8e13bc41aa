package pull

import (
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/registry"
)

// verified makes sure that verify has nothing to say of a store.
func verified(t *testing.T, dir string) {
	t.Helper()
	s, err := overlay.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Verify(t.Context(), overlay.VerifyOptions{})
	if err != nil || len(v.Damages) > 0 {
		t.Errorf("verify: %v, %v", v.Damages, err)
	}
}

// TestStoreSaves: Docker can save and push each layer that a store takes.
func TestStoreSaves(t *testing.T) {
	s := serve(t)
	for name, tc := range map[string]struct {
		layer  v1.Layer
		refuse string
	}{
		"content that is replaced":         {layer(t, file{name: "a", content: "1"}, file{name: "a/b", content: "2"}), "could not save or push it"},
		"content that is replaced by less": {layer(t, file{name: "d/a", content: "1"}, file{name: "s", typ: '5'}, file{name: "d"}), "could not save or push it"},
		"nothing that is replaced":         {layer(t, file{name: "a"}, file{name: "a/b", content: "2"}), ""},
		"a whiteout with content":          {layer(t, file{name: ".wh.a", content: "1"}, file{name: "b", content: "2"}), ""},
		"AUFS' own, with content":          {layer(t, file{name: ".wh..wh.plnk/1.2", content: "1"}, file{name: ".wh..wh.aufs", content: "2"}, file{name: "b", content: "3"}), ""},
		"a file, then a whiteout below it": {layer(t, file{name: "a", content: "1"}, file{name: "a/.wh.b", content: "2"}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			ref := s.push(t, "img:tag", tc.layer)
			dir := filepath.Join(t.TempDir(), "store")
			_, err := pull(t, t.Context(), storeOptions(dir, ref))
			switch {
			case tc.refuse == "":
				if err != nil {
					t.Fatal(err)
				}
				expectImage(t, dir, ref, tc.layer)
			case fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), tc.refuse) || !strings.Contains(fault.HintOf(err), "--rootfs"):
				t.Errorf("%v (%s)", err, fault.HintOf(err))
			}
			verified(t, dir)
			if _, err := pull(t, t.Context(), Options{Kind: RootFS, Path: filepath.Join(t.TempDir(), "root"), References: []registry.Reference{ref}}); err != nil {
				t.Errorf("--rootfs: %v", err)
			}
		})
	}
}
