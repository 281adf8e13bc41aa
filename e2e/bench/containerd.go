package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/fastpull/fastpull/e2e/engines"
)

// byContainerd pulls with ctr into a containerd of its own.
func (b *bench) byContainerd(img *testImage) entrant {
	return entrant{name: "ctr images pull", image: img, turn: func(ctx context.Context, d *disk) (f figures, err error) {
		c, err := b.startContainerd(ctx, d)
		if err != nil {
			return f, err
		}
		defer c.stop()
		f, err = b.withDaemon(ctx, d, c.server, true, func(ctx context.Context) (usage, error) {
			_, u, err := c.ctr(ctx, "images", "pull", "--plain-http", img.ref)
			return u, err
		})
		if err != nil {
			return f, err
		}
		id, err := c.id(ctx, img)
		if err != nil {
			return f, err
		}
		return f, expectID(img, id)
	}}
}

// containerd is a running one.
type containerd struct {
	*server
	sock   string
	client string
}

// startContainerd starts one that keeps everything on d.
func (b *bench) startContainerd(ctx context.Context, d *disk) (*containerd, error) {
	daemon, err := firstOf("/usr/bin/containerd", "containerd")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.temp, "containerd-")
	if err != nil {
		return nil, err
	}
	c := &containerd{}
	if c.client, err = firstOf("/usr/bin/ctr", "ctr"); err != nil {
		return nil, err
	}
	cmd, sock, err := engines.ContainerdCommand(daemon, dir, d.path("containerd"), false)
	if err != nil {
		return nil, err
	}
	c.sock, cmd.Env = sock, append(cmd.Env, debianPath)
	if c.server, err = startServer(cmd, nil); err != nil {
		return nil, err
	}
	if err := c.ready(ctx, func(ctx context.Context) error { _, _, err := c.ctr(ctx, "version"); return err }); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *containerd) ctr(ctx context.Context, args ...string) (string, usage, error) {
	return command{program: c.client, args: append([]string{"--address", c.sock}, args...)}.run(ctx)
}

// id looks the config up in the manifest that containerd has.
func (c *containerd) id(ctx context.Context, img *testImage) (string, error) {
	list, _, err := c.ctr(ctx, "images", "list", "name=="+img.ref)
	if err != nil {
		return "", err
	}
	// REF TYPE DIGEST SIZE …, under a line that says so
	fields := strings.Fields(list[strings.IndexByte(list, '\n')+1:])
	if len(fields) < 3 || fields[0] != img.ref {
		return "", fmt.Errorf("containerd has no image %s:\n%s", img.ref, list)
	}
	text, _, err := c.ctr(ctx, "content", "get", fields[2])
	if err != nil {
		return "", err
	}
	var manifest struct{ Config struct{ Digest string } }
	if err := json.Unmarshal([]byte(text), &manifest); err != nil {
		return "", fmt.Errorf("read the manifest %s of containerd: %w", fields[2], err)
	}
	return manifest.Config.Digest, nil
}
