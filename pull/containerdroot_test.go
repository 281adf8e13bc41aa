package pull

import (
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/containerdfiles"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

func rootOptions(dir string, refs ...registry.Reference) to {
	return to{Kind: "containerd-root", Path: dir, Options: Options{References: refs}}
}

// expectRoot checks that a root has the images of a run, with these layers on each other, and
// nothing else.
func expectRoot(t *testing.T, dir string, sum *Summary, images ...[]v1.Layer) {
	t.Helper()
	r, err := containerdfiles.Open(t.Context(), dir, containerdfiles.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := r.In("default")
	blobs, snapshots := make(map[digest.Digest]bool), make(map[digest.Digest]bool)
	for i, res := range sum.Images {
		blobs[res.Digest], blobs[res.ImageID] = true, true
		var chain digest.Digest
		for n, l := range images[i] {
			blobs[digest.Digest(blobOf(l))] = true
			id, err := l.DiffID()
			if err != nil {
				t.Fatal(err)
			}
			chain = image.ChainID(chain, digest.Digest(id.String()))
			snapshots[chain] = true
			if got, err := s.Snapshots().Stat(t.Context(), chain.String()); err != nil || !got.Committed {
				t.Errorf("%s: layer %d is %+v, %v", res.Reference, n, got, err)
			}
		}
	}
	for d := range blobs {
		if _, err := s.StatBlob(t.Context(), d); err != nil {
			t.Error(err)
		}
	}
	count := func(dir string, want int) {
		t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) || len(entries) != want {
			t.Errorf("%s has %d entries, want %d, %v", dir, len(entries), want, err)
		}
	}
	count(filepath.Join(r.Content(), "blobs/sha256"), len(blobs))
	count(filepath.Join(r.Content(), "ingest"), 0)
	count(r.Snapshots(), len(snapshots))
}

// TestContainerdRoot brings images that share layers into the root of a containerd that does
// not run. What is there is not fetched again, and a run that fails leaves what was there.
func TestContainerdRoot(t *testing.T) {
	t.Setenv("CONTAINERD_NAMESPACE", "")
	s := serve(t)
	a, b, c := noise(t, "a", 2<<20), noise(t, "b", 1<<10), layer(t, file{name: "deep/in/here", content: "x"}, file{name: "a"})
	one, two, three := s.push(t, "one:tag", a, b), s.push(t, "two:tag", b, a, c), s.push(t, "three:tag", a, b, c)
	dir := filepath.Join(t.TempDir(), "root")

	plan := rootOptions(dir, one)
	plan.DryRun = true
	if sum, err := pull(t, t.Context(), plan); err != nil || sum.Images[0].Status != Planned {
		t.Errorf("a dry run without a root: %+v, %v", sum.Images[0], err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a dry run has made the root: %v", err)
	}
	sum, err := pull(t, t.Context(), rootOptions(dir, one, two))
	if err != nil {
		t.Fatal(err)
	}
	expectRoot(t, dir, sum, []v1.Layer{a, b}, []v1.Layer{b, a, c})
	s.reset()
	again, err := pull(t, t.Context(), rootOptions(dir, one, two))
	if err != nil || again.Images[0].Status != Exists || again.Images[1].Status != Exists || s.blobs() > 0 {
		t.Errorf("the second time %d blobs were fetched: %+v, %v", s.blobs(), again.Images, err)
	}

	// All blobs are there, and the layers are on other ones.
	d := noise(t, "d", 1<<10)
	bad := s.push(t, "bad:tag", a, d)
	s.spoil = func(blob string, data []byte) []byte {
		if blob == blobOf(d) {
			data[len(data)/2] ^= 1
		}
		return data
	}
	if _, err := pull(t, t.Context(), rootOptions(dir, bad)); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("a damaged layer: %v", err)
	}
	expectRoot(t, dir, sum, []v1.Layer{a, b}, []v1.Layer{b, a, c})
	s.reset()
	more, err := pull(t, t.Context(), rootOptions(dir, three))
	if err != nil || s.got(blobOf(a))+s.got(blobOf(b))+s.got(blobOf(c)) > 0 {
		t.Errorf("layers that are there were fetched: %v", err)
	}
	sum.Images = append(sum.Images, more.Images...)
	expectRoot(t, dir, sum, []v1.Layer{a, b}, []v1.Layer{b, a, c}, []v1.Layer{a, b, c})

	held, err := containerdfiles.Open(t.Context(), dir, containerdfiles.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if _, err := pull(t, t.Context(), rootOptions(dir, one)); fault.HintOf(err) == "" {
		t.Errorf("a root in use: %v", err)
	}
}

// TestDockerRoot refuses a data-root whose Docker would not look into containerd.
func TestDockerRoot(t *testing.T) {
	s := serve(t)
	ref := s.push(t, "img:tag", noise(t, "a", 1<<10))
	dir := t.TempDir()
	o := to{Kind: "docker-root", Path: dir, Options: Options{References: []registry.Reference{ref}}}
	if _, err := pull(t, t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "containerd/daemon/io.containerd.metadata.v1.bolt/meta.db")); err != nil {
		t.Error(err)
	}
	if _, err := pull(t, t.Context(), storeOptions(dir, ref)); fault.KindOf(err) != fault.Usage {
		t.Errorf("overlay2 beside it: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "overlay2/l"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := pull(t, t.Context(), o); fault.KindOf(err) != fault.Usage {
		t.Errorf("with overlay2: %v", err)
	}
}
