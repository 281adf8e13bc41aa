//go:build e2e

package containerd

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/fastpull/fastpull/e2e/kit"
	"github.com/fastpull/fastpull/internal/text"
)

// TestContainerdInterrupt: a run that is interrupted leaves nothing.
func TestContainerdInterrupt(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	reg.Push(t, "img:tag", kit.KillImage(t))
	g := kit.StartGate(t, reg)
	c := kit.StartContainerd(t, kit.ContainerdOptions{Release: kit.Debian})
	for _, limit := range []int64{100 << 10, 5 << 20} {
		g.Arm(limit)
		p := c.User(t).Start(t, "--no-resume", "--containerd", g.Addr+"/img:tag")
		g.WaitReached(t, &p.Err)
		p.Signal(t, syscall.SIGINT)
		p.Wait(t).Expect(t, 130)
		g.Open()
		expectEmpty(t, fmt.Sprintf("interrupted after %d bytes", limit), c)
	}
}

// TestContainerdKill kills runs at random moments. After each kill containerd finds nothing
// wrong, and the next run completes the images. Nothing is left of a killed run once its
// lease is deleted, as containerd deletes it when it expires. FASTPULL_KILLS is how many.
func TestContainerdKill(t *testing.T) {
	t.Parallel()
	kills := int(kit.FromEnv(t, "FASTPULL_KILLS", 4))
	begun := time.Now()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.KillImage(t)
	ref := reg.Push(t, "img:tag", im)
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		c := kit.StartContainerd(t, kit.ContainerdOptions{Release: r})
		whole := c.User(t).Fastpull(t, "--containerd", ref).Expect(t, 0).Took
		right := trees(t, c, im, begun)
		killed, resumed, runs := 0, 0, 0
		for ; killed < kills && runs < 10*kills; runs++ {
			c.Ctr(t, "images", "rm", "--sync", ref)
			expectEmpty(t, "before", c)
			when, inTime := c.User(t).KillAtRandom(t, &whole, "--containerd", ref)
			if !inTime {
				continue
			}
			killed++
			expectComplete(t, when, c)
			kept := killed%2 == 0 // for the next run
			if !kept {
				expire(t, c)
				if len(c.Lines(t, "images", "ls")) == 0 {
					expectEmpty(t, when+" and the end of its lease", c)
				}
			}
			sum := c.User(t).Fastpull(t, "--containerd", "--json", ref).Expect(t, 0).Summary(t)
			if kept && sum.BytesFetched < im.Bytes() {
				resumed++
			}
			expire(t, c)
			expectImage(t, when, c, im)
			for n, got := range trees(t, c, im, begun) {
				kit.ExpectSame(t, fmt.Sprintf("%s: layer %d", when, n), kit.CompareNodes(got, right[n]))
			}
		}
		c.Ctr(t, "images", "rm", "--sync", ref)
		expectEmpty(t, "at the end", c)
		if t.Logf("%d of %d runs were killed, and %d continued by the next one", killed, runs, resumed); killed < kills {
			t.Errorf("only %d runs were killed", killed)
		}
	})
}

// TestContainerdExpired kills runs, and lets their leases expire: containerd removes what it has
// of them by itself, the ingests too. fastpull prune removes the partial blobs beside the content
// store, but not those of a run that has not ended.
func TestContainerdExpired(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	reg.Push(t, "img:tag", kit.KillImage(t))
	word := reg.Push(t, "word:tag", kit.WordImage(t, "word"))
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		g := kit.StartGate(t, reg)
		root := filepath.Join(kit.ShortTempDir(t), "root")
		c := kit.StartContainerd(t, kit.ContainerdOptions{Release: r, Root: root})
		// Containerd 1.6 removes no ingests while its content store has never had a blob: it ends
		// at the missing directory of blobs. So an image is there once.
		c.User(t).Fastpull(t, "--containerd", word).Expect(t, 0)
		c.Ctr(t, "images", "rm", "--sync", word)
		expectEmpty(t, "before", c)
		prune := func(words string) {
			t.Helper()
			c.User(t).Fastpull(t, "prune", "--containerd").Expect(t, 0, words)
		}
		// With --no-resume, blobs are ingests and not files.
		for _, flags := range [][]string{{"--containerd"}, {"--containerd", "--no-resume"}} {
			g.Arm(5 << 20)
			p := c.User(t).Start(t, append(flags, g.Addr+"/img:tag")...)
			g.WaitReached(t, &p.Err)
			if len(flags) == 1 {
				prune("0 partial blobs, 0 B freed")
			}
			p.Signal(t, syscall.SIGKILL)
			p.Wait(t)
			g.Open()
		}
		partial := len(kit.Names(t, filepath.Join(root, "fastpull/partial")))
		if partial == 0 {
			t.Error("no partial blob is left")
		}
		prune(text.Count(partial, "partial blob") + ", ")
		prune("0 partial blobs, 0 B freed")
		if active := c.Lines(t, "content", "active"); len(active) == 0 {
			t.Error("no ingest is left")
		}
		if leases := c.Lines(t, "leases", "ls"); len(leases) != 2 {
			t.Errorf("leases: %q", leases)
		}
		c.Stop()
		backdate(t, root)
		c = kit.StartContainerd(t, kit.ContainerdOptions{Release: r, Root: root})
		kit.Eventually(15*time.Second, func() bool { return len(c.Lines(t, "leases", "ls")) == 0 })
		expectEmpty(t, "after the leases have expired", c)
		if files := blobFiles(t, c); len(files) > 0 {
			t.Errorf("files of blobs are left: %q", files)
		}
	})
}

// backdate has all leases in a root expire a minute ago. containerd must not run.
func backdate(t *testing.T, root string) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(root, "io.containerd.metadata.v1.bolt/meta.db"), 0o600, &bolt.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bolt.Tx) error {
		leases := tx.Bucket([]byte("v1")).Bucket([]byte("e2e")).Bucket([]byte("leases"))
		return leases.ForEachBucket(func(id []byte) error {
			expired := time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
			return leases.Bucket(id).Bucket([]byte("labels")).Put([]byte("containerd.io/gc.expire"), []byte(expired))
		})
	}); err != nil {
		t.Fatal(err)
	}
}

// expire deletes all leases, as containerd does when they expire.
func expire(t *testing.T, c *kit.Containerd) {
	t.Helper()
	for _, line := range c.Lines(t, "leases", "ls") {
		c.Ctr(t, "leases", "delete", "--sync", strings.Fields(line)[0])
	}
}

// trees returns the files of an image's layers.
func trees(t *testing.T, c *kit.Containerd, im kit.Image, begun time.Time) (list []map[string]kit.Node) {
	t.Helper()
	for _, dir := range c.Layers(t, im.ChainID()) {
		list = append(list, kit.ReadTree(t, dir, kit.TreeOptions{MadeUp: begun}))
	}
	if len(list) != len(im.Layers) {
		t.Fatalf("%d directories are mounted of %d layers", len(list), len(im.Layers))
	}
	return list
}

// expectImage checks that containerd has an image, all of it and nothing else.
func expectImage(t *testing.T, when string, c *kit.Containerd, im kit.Image) {
	t.Helper()
	expectKept(t, c)
	if n := len(c.Lines(t, "snapshots", "ls")); n != len(im.Layers) {
		t.Errorf("%s: there are %d snapshots of %d layers", when, n, len(im.Layers))
	}
	if got, want := len(c.Content(t)), len(im.Layers)+2; got != want {
		t.Errorf("%s: there are %d blobs, want %d", when, got, want)
	}
	if active := c.Lines(t, "content", "active"); len(active) > 0 {
		t.Errorf("%s: blobs are being written: %q", when, active)
	}
}
