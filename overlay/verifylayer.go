package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/unpack"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

type unpackForm = whiteout.Overlay

// maxDamages is how many damages of one layer are told one by one.
const maxDamages = 20

// layer looks at one layer. What is wrong with it is no error.
func (c *verifier) layer(ctx context.Context, chain digest.Digest) error {
	e := c.st.entries[chain]
	d := Damage{Layer: chain, DiffID: e.diffID, Parent: e.parent, Images: c.users[chain]}
	if diff := c.diffs[chain]; diff != "" {
		d.DiffID, d.Parent = diff, c.parents[chain]
	}
	n := 0
	wrong := func(file, format string, args ...any) {
		if n++; n > maxDamages {
			return
		}
		d := d
		d.File, d.Problem = file, fmt.Sprintf(format, args...)
		c.damage(d)
	}
	if _, err := os.Stat(c.r.path("image/overlay2/layerdb/sha256", chain.Encoded())); errors.Is(err, fs.ErrNotExist) {
		if l, err := c.r.Layer(chain); err == nil && l.below {
			return nil // it is looked at with the data-root
		}
		wrong("", "it is missing")
		return nil
	}
	err := c.entry(e, wrong)
	var read int64
	if err == nil {
		read, err = c.files(ctx, e, wrong)
	}
	if fault.Exhausted(err) {
		return fmt.Errorf("layer %s: %w", d.DiffID, err)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.v.Layers++
	c.v.Bytes += read
	if n == 0 {
		c.v.Good[chain] = true
	}
	if n > maxDamages {
		d.Problem = fmt.Sprintf("and %d more", n-maxDamages)
		c.v.Damages = append(c.v.Damages, d)
	}
	return nil
}

// entry checks the entry of a layer in layerdb. The error is one of [fault.Exhausted].
func (c *verifier) entry(e entry, wrong func(file, format string, args ...any)) (lacks error) {
	r := c.r
	read := func(elem ...string) ([]byte, error) {
		data, err := os.ReadFile(r.path(elem...))
		if fault.Exhausted(err) {
			lacks = err
		}
		return data, err
	}
	switch want := image.ChainID(e.parent, e.diffID); {
	case e.diffID == "":
		wrong("diff", "there is none")
	case want != e.chain:
		wrong("parent", "this parent and the diffID come to another layer, %s", want)
	}
	if data, err := read("image/overlay2/layerdb/sha256", e.chain.Encoded(), "size"); err != nil {
		wrong("size", "%v", err)
	} else if _, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err != nil {
		wrong("size", "%v", err)
	}
	if e.cacheID == "" {
		wrong("cache-id", "there is none")
		return lacks
	}
	link, err := read("overlay2", e.cacheID, "link")
	short := strings.TrimSpace(string(link))
	switch {
	case err != nil:
		wrong("link", "%v", err)
	case !isShort(short):
		wrong("link", "%.40q is no short ID", short)
	case !r.leadsTo(short, e.cacheID):
		wrong("link", "overlay2/l/%s does not lead to the layer", short)
	}
	var want []string
	if e.parent != "" {
		p, err := r.Layer(e.parent)
		if err == nil {
			want, err = r.lowers(p)
		}
		if fault.Exhausted(err) {
			return err
		}
		if err != nil {
			wrong("parent", "the layer below is missing or damaged: %v", err)
			return lacks
		}
	}
	lower, err := read("overlay2", e.cacheID, "lower")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		wrong("lower", "%v", err)
	} else if have := strings.TrimSpace(string(lower)); have != strings.Join(want, ":") {
		wrong("lower", "it does not name the layers below")
	}
	return lacks
}

// files looks at the files of a layer, and returns how many bytes were read.
func (c *verifier) files(ctx context.Context, e entry, wrong func(file, format string, args ...any)) (read int64, err error) {
	const split = "tar-split.json.gz"
	if e.cacheID == "" || e.diffID == "" {
		return 0, nil
	}
	dir := c.r.path("overlay2", e.cacheID, "diff")
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		wrong("", "its files are gone: %s", dir)
		return 0, nil
	}
	f, err := os.Open(c.r.path("image/overlay2/layerdb/sha256", e.chain.Encoded(), split))
	if fault.Exhausted(err) {
		return 0, err
	}
	if err != nil {
		wrong(split, "%v", err)
		return 0, nil
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		wrong(split, "%v", err)
		return 0, nil
	}
	found := 0
	sum, err := unpack.Check(ctx, z, dir, unpack.CheckOptions{
		Whiteouts: c.form,
		Rootless:  c.form.User,
		Read: func(n int64) {
			read += n
			if c.o.Read != nil {
				c.o.Read(n)
			}
		},
	}, func(name, problem string) {
		found++
		wrong(name, "%s", problem)
	})
	if ctx.Err() != nil {
		return read, context.Cause(ctx)
	}
	if fault.Exhausted(err) {
		return read, err
	}
	if err == nil {
		_, err = io.Copy(io.Discard, z) // the checksum at its end
	}
	switch {
	case err != nil:
		wrong(split, "%v", err)
	case found == 0 && sum != "" && sum != e.diffID:
		wrong(split, "with it the files make another tar, %s", sum)
	}
	return read, nil
}
