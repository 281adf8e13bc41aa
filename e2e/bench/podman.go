package main

import (
	"context"
	"fmt"
	"os"
	"slices"
)

// podmanContest is about ways into Podman's store: fastpull's, and its own.
func (b *bench) podmanContest(ctx context.Context, c *contest, kind string) error {
	if err := b.bothPromises(ctx, c, b.toPodman, kind); err != nil {
		return err
	}
	if slices.Contains(b.against, podman) {
		c.entrants = append(c.entrants, b.byPodman(c.entrants[0].image))
	}
	return nil
}

// intoPodman is a way into a new graph root.
func (b *bench) intoPodman(name string, img *testImage, bring func(context.Context, podmanStore) (usage, error)) entrant {
	return entrant{name: name, image: img, turn: func(ctx context.Context, d *disk) (f figures, err error) {
		s, err := newPodman(d)
		if err != nil {
			return f, err
		}
		f, err = b.measure(ctx, d, func(ctx context.Context) (usage, error) { return bring(ctx, s) })
		if err != nil {
			return f, err
		}
		return f, s.has(ctx, img)
	}}
}

// toPodman puts an image there by fastpull.
func (b *bench) toPodman(p fastpull, img *testImage) entrant {
	return b.intoPodman(p.name+" --podman", img, func(ctx context.Context, s podmanStore) (usage, error) {
		return p.pull(ctx, nil, "--podman="+s.root, "--temp-dir", s.temp, img.ref)
	})
}

// byPodman pulls with Podman, which runs pigz.
func (b *bench) byPodman(img *testImage) entrant {
	return b.intoPodman("podman pull", img, func(ctx context.Context, s podmanStore) (usage, error) {
		_, u, err := s.podman(ctx, "pull", "--quiet", "--tls-verify=false", img.ref)
		return u, err
	})
}

// podmanStore is a store of Podman's with the driver overlay.
type podmanStore struct {
	client, root, run, temp string
}

// newPodman returns an empty one on d, and so is its run root, whose path Podman limits to 50
// characters.
func newPodman(d *disk) (s podmanStore, err error) {
	s = podmanStore{root: d.path("podman"), run: d.path("run"), temp: d.dir}
	if s.client, err = firstOf("/usr/bin/podman", "podman"); err != nil {
		return s, err
	}
	if _, err := os.Stat("/usr/bin/pigz"); err != nil {
		return s, fmt.Errorf("podman without pigz is not what is to be measured: %w", err)
	}
	return s, nil
}

// podman runs it. The blobs that it spools are on the same disk.
func (s podmanStore) podman(ctx context.Context, args ...string) (string, usage, error) {
	global := []string{"--root", s.root, "--runroot", s.run, "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"}
	return command{program: s.client, args: append(global, args...), env: []string{debianPath, "TMPDIR=" + s.temp}}.run(ctx)
}

// has checks that Podman has the image, and can make a container of it.
func (s podmanStore) has(ctx context.Context, img *testImage) error {
	id, _, err := s.podman(ctx, "image", "inspect", "--format", "{{.Id}}", img.ref)
	if err != nil {
		return err
	}
	if err := expectID(img, "sha256:"+id); err != nil {
		return err
	}
	_, _, err = s.podman(ctx, "create", "--network", "none", img.ref, "/true")
	return err
}
