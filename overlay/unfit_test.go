package overlay

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// plantImage puts a config into a store that no Store puts there, under a name.
func plantImage(t *testing.T, s *Store, name, config string) digest.Digest {
	t.Helper()
	id := digest.FromString(config)
	n, err := s.names()
	if err != nil {
		t.Fatal(err)
	}
	repo, _, _ := strings.Cut(name, ":")
	n.Repositories[repo] = map[string]digest.Digest{name: id}
	if err := os.WriteFile(s.path("image/overlay2/imagedb/content/sha256", id.Encoded()), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.putNames(n); err != nil {
		t.Fatal(err)
	}
	return id
}

// TestUnfit: a config with which a dockerd does not start, or that it cannot read, gets
// into no store. Verify finds one that is in a store, and it can be removed.
func TestUnfit(t *testing.T) {
	for name, tc := range map[string]struct {
		members string // beside the layers
		problem string
	}{
		"a system that Docker looks for under another name": {`"os":"Linux"`, `the system "Linux"`},
		"a longer history than there are layers":            {`"os":"linux","history":[{},{},{},{}]`, "a history of 4 layers, and 3 layers"},
		"a type that is another":                            {`"os":"linux","config":{"Env":"A=1"}`, "Docker cannot read the image's config"},
	} {
		t.Run(name, func(t *testing.T) {
			s, good := verifyStore(t)
			var list []string
			for _, l := range good.Layers {
				list = append(list, fmt.Sprintf("%q", l.DiffID))
			}
			config := fmt.Sprintf(`{"rootfs":{"diff_ids":[%s]},%s}`, strings.Join(list, ","), tc.members)
			img, err := image.Parse([]byte(config))
			if err != nil {
				t.Fatal(err)
			}
			err = s.PutImage(t.Context(), img, "unfit", []string{"unfit:1"})
			if fault.KindOf(err) != fault.Failed || !strings.Contains(err.Error(), tc.problem) {
				t.Errorf("PutImage: %v", err)
			}
			id := plantImage(t, s, "unfit:1", config)
			v, err := s.Verify(t.Context(), VerifyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(v.Damages) != 1 || !v.Damages[0].Unfit || v.Damages[0].Image != id || !strings.Contains(v.Damages[0].Error(), "(of unfit:1): ") || !strings.Contains(v.Damages[0].Problem, tc.problem) {
				t.Errorf("Verify: %+v", v.Damages)
			}
			if v, err := s.Verify(t.Context(), VerifyOptions{Images: []digest.Digest{good.ID}}); err != nil || len(v.Damages) > 0 {
				t.Errorf("Verify of the other image: %+v, %v", v.Damages, err)
			}
			r, err := s.Remove(t.Context(), id.Encoded()[:12], RemoveOptions{Force: true})
			if err != nil || len(r.Untagged) != 1 || len(r.Deleted) != 1 || len(r.Layers) != 0 {
				t.Errorf("Remove: %+v, %v", r, err)
			}
			if v, err := s.Verify(t.Context(), VerifyOptions{}); err != nil || len(v.Damages) > 0 || v.Images != 1 {
				t.Errorf("Verify when it is gone: %+v, %v", v, err)
			}
		})
	}
	t.Run("with layers of its own", func(t *testing.T) {
		s := openTest(t, t.TempDir())
		img := putChain(t, s, "own", 2)
		id := plantImage(t, s, "unfit:1", strings.Replace(string(img.Config), `"linux"`, `"Linux"`, 1))
		dir := s.dir
		s.Close() // it needs the layers no more
		s = openTest(t, dir)
		r, err := s.Remove(t.Context(), "unfit:1", RemoveOptions{})
		if err != nil || len(r.Deleted) != 1 || r.Deleted[0] != id || len(r.Layers) != 2 {
			t.Errorf("Remove: %+v, %v", r, err)
		}
	})
	t.Run("no image at all", func(t *testing.T) {
		s, _ := verifyStore(t)
		id := plantImage(t, s, "unfit:1", `{"os":5}`)
		v, err := s.Verify(t.Context(), VerifyOptions{})
		if err != nil || len(v.Damages) != 1 || v.Damages[0].Image != id {
			t.Errorf("Verify: %+v, %v", v.Damages, err)
		}
		if r, err := s.Remove(t.Context(), "unfit:1", RemoveOptions{}); err != nil || len(r.Deleted) != 1 {
			t.Errorf("Remove: %+v, %v", r, err)
		}
	})
}
