package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fastpull/fastpull/e2e/engines"
)

// intoContainerd is a way into a new containerd. The peak is that of the daemon if daemonPeak
// is set.
func (b *bench) intoContainerd(r release, name string, img *testImage, daemonPeak bool, bring func(context.Context, *containerd, *disk) (usage, error)) entrant {
	return entrant{name: name, image: img, turn: func(ctx context.Context, d *disk) (f figures, err error) {
		c, err := b.startContainerd(ctx, d, r)
		if err != nil {
			return f, err
		}
		defer c.stop()
		f, err = b.withDaemon(ctx, d, c.server, daemonPeak, func(ctx context.Context) (usage, error) { return bring(ctx, c, d) })
		if err != nil {
			return f, err
		}
		return f, c.has(ctx, img)
	}}
}

// byContainerd pulls with ctr.
func (b *bench) byContainerd(r release, img *testImage) entrant {
	return b.intoContainerd(r, "ctr images pull", img, true, func(ctx context.Context, c *containerd, _ *disk) (usage, error) {
		_, u, err := c.ctr(ctx, "images", "pull", "--plain-http", img.ref)
		return u, err
	})
}

// containerd is a running one.
type containerd struct {
	*server
	sock   string
	client string
}

// unpacks has containerd 2 unpack four layers at a time, where one is the default.
const unpacks = `[plugins."io.containerd.transfer.v1.local"]
max_concurrent_unpacks = 4
`

// startContainerd starts one that keeps everything on d.
func (b *bench) startContainerd(ctx context.Context, d *disk, r release) (*containerd, error) {
	daemon, client, path, err := b.containerdPrograms(ctx, r)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.temp, "containerd-")
	if err != nil {
		return nil, err
	}
	more := ""
	if r == today {
		more = unpacks
	}
	cmd, sock, err := engines.ContainerdCommand(daemon, dir, d.path("containerd"), false, more)
	if err != nil {
		return nil, err
	}
	c := &containerd{sock: sock, client: client}
	cmd.Env = append(cmd.Env, path)
	if c.server, err = startServer(cmd, nil); err != nil {
		return nil, err
	}
	if err := c.ready(ctx, func(ctx context.Context) error { _, _, err := c.ctr(ctx, "version"); return err }); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// containerdPrograms finds the daemon and its client, and returns the PATH that they need.
func (b *bench) containerdPrograms(ctx context.Context, r release) (daemon, client, path string, err error) {
	if r == today {
		folder, err := engines.Containerd(ctx, b.temp)
		return filepath.Join(folder, "containerd"), filepath.Join(folder, "ctr"), withFolder(folder), err
	}
	if daemon, err = firstOf("/usr/bin/containerd", "containerd"); err == nil {
		client, err = firstOf("/usr/bin/ctr", "ctr")
	}
	return daemon, client, debianPath, err
}

func (c *containerd) ctr(ctx context.Context, args ...string) (string, usage, error) {
	return command{program: c.client, args: append([]string{"--address", c.sock}, args...)}.run(ctx)
}

// has checks that containerd has all of the image, unpacked.
func (c *containerd) has(ctx context.Context, img *testImage) error {
	list, _, err := c.ctr(ctx, "images", "check", "name=="+img.ref)
	if err != nil {
		return err
	}
	// REF TYPE DIGEST STATUS SIZE UNPACKED, under a line that says so
	line := list[strings.IndexByte(list, '\n')+1:]
	fields := strings.Fields(line)
	if len(fields) < 3 || fields[0] != img.ref || !strings.Contains(line, " complete ") || fields[len(fields)-1] != "true" {
		return fmt.Errorf("containerd has no whole image %s:\n%s", img.ref, list)
	}
	text, _, err := c.ctr(ctx, "content", "get", fields[2])
	if err != nil {
		return err
	}
	var manifest struct{ Config struct{ Digest string } }
	if err := json.Unmarshal([]byte(text), &manifest); err != nil {
		return fmt.Errorf("read the manifest %s of containerd: %w", fields[2], err)
	}
	return expectID(img, manifest.Config.Digest)
}
