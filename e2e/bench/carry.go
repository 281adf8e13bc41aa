package main

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fastpull/fastpull/fault"
)

// The other programs that write images to a file, and the forms that are compared: plain layers
// with skopeo, which makes an archive for docker load of them, and the registry's
// own bytes with crane, which leaves them as they are.
const (
	skopeo = "skopeo"
	crane  = "crane"

	plain = "plain"
	keep  = "keep"
)

// craneCommand is crane's, in the module peers.
const craneCommand = "github.com/google/go-containerregistry/cmd/crane"

// bundleContest is from the registry to a file.
func (b *bench) bundleContest(ctx context.Context, c *contest, form string) error {
	toFile := func(p fastpull, img *testImage) entrant {
		return b.toFile(p.name+" bundle --layers="+form, img, func(d *disk, file string) command {
			return command{program: p.program, args: []string{"bundle", "--progress", "quiet", "--layers", form, "-o", file, img.ref}}
		})
	}
	if err := b.forBuilds(ctx, c, toFile, multi); err != nil {
		return err
	}
	img := c.entrants[0].image
	if form == plain {
		return b.addSkopeo(c, img)
	}
	return b.addCrane(ctx, c, img)
}

// addSkopeo has skopeo compete, where it is wanted.
func (b *bench) addSkopeo(c *contest, img *testImage) error {
	if !slices.Contains(b.against, skopeo) {
		return nil
	}
	program, err := firstOf("/usr/bin/skopeo", "skopeo")
	if err != nil {
		return fault.WithHint(fault.Wrap(fault.NotFound, err), "apt-get install skopeo")
	}
	c.entrants = append(c.entrants, b.toFile("skopeo copy docker-archive:", img, func(_ *disk, file string) command {
		return command{program: program, args: []string{
			"--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "docker://" + img.ref, "docker-archive:" + file,
		}}
	}))
	return nil
}

// addCrane has crane compete, where it is wanted.
func (b *bench) addCrane(ctx context.Context, c *contest, img *testImage) (err error) {
	if !slices.Contains(b.against, crane) {
		return nil
	}
	if b.crane == "" {
		if b.crane, err = b.buildIn(ctx, "peers", craneCommand, crane); err != nil {
			return err
		}
	}
	c.entrants = append(c.entrants, b.toFile("crane pull", img, func(_ *disk, file string) command {
		return command{program: b.crane, args: []string{"pull", "--insecure", img.ref, file}}
	}))
	return nil
}

// toFile writes an image to a file. What is temporary is on the same disk.
func (b *bench) toFile(name string, img *testImage, call func(d *disk, file string) command) entrant {
	return entrant{name: name, image: img, turn: func(ctx context.Context, d *disk) (figures, error) {
		file := d.path("image.tar")
		cmd := call(d, file)
		cmd.env = append(cmd.env, "TMPDIR="+d.dir, "XDG_CACHE_HOME="+d.path("cache"), "HOME="+d.dir)
		f, err := b.measure(ctx, d, func(ctx context.Context) (usage, error) {
			_, u, err := cmd.run(ctx)
			return u, err
		})
		if err != nil {
			return f, err
		}
		id, err := archived(file)
		if err != nil {
			return f, fmt.Errorf("read what %s wrote: %w", name, err)
		}
		return f, expectID(img, id)
	}}
}

// archived returns the ID of the one image of an archive for docker load. Its
// layers must be there, too.
func archived(file string) (id string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var list []struct {
		Config string
		Layers []string
	}
	there := make(map[string]bool)
	r := tar.NewReader(f) // which skips by seeking
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", err
		}
		there[h.Name] = true
		if h.Name == "manifest.json" {
			if err := json.NewDecoder(bufio.NewReader(r)).Decode(&list); err != nil {
				return "", err
			}
		}
	}
	if len(list) != 1 {
		return "", fmt.Errorf("manifest.json has %d images", len(list))
	}
	for _, name := range append(list[0].Layers, list[0].Config) {
		if !there[name] {
			return "", errors.New(name + " is missing")
		}
	}
	hex := strings.TrimSuffix(filepath.Base(list[0].Config), ".json")
	return "sha256:" + strings.TrimPrefix(hex, "sha256:"), nil
}
