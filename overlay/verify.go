package overlay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/openfiles"
)

// VerifyOptions are the options of [Reader.Verify].
type VerifyOptions struct {
	// Images are the IDs of those that are looked at. Nil are all, with the layers
	// that no image has.
	Images []digest.Digest
	// Cores is how many layers are looked at side by side; 0 is as many as there are
	// cores. They are fewer if the process may not open the files for as many.
	Cores int
	// Good are layers that need not be looked at again, by chainID.
	Good map[digest.Digest]bool
	// Expect is called with the number of bytes of files to read, and Read with the number
	// that was read. Nil is fine.
	Expect, Read func(n int64)
}

// Verified is the result of [Reader.Verify].
type Verified struct {
	Images  int      `json:"images"`
	Layers  int      `json:"layers"`
	Bytes   int64    `json:"bytes"` // of layers' files
	Damages []Damage `json:"damages"`

	Good map[digest.Digest]bool `json:"-"` // layers without damage, by chainID
}

// Damage is one thing in a store that is not as it should be. It is an error of
// kind [fault.Corrupt].
type Damage struct {
	Layer  digest.Digest `json:"layer,omitempty"`  // chainID
	DiffID digest.Digest `json:"diffID,omitempty"` // of the layer, if it is known
	Parent digest.Digest `json:"parent,omitempty"` // chainID, of a layer that an image has
	Image  digest.Digest `json:"image,omitempty"`  // whose config it is
	Images []string      `json:"images"`           // what has the layer or the config: names, or IDs
	File   string        `json:"file,omitempty"`   // in the layer, or of what is known of it
	// Problem says what is wrong.
	Problem string `json:"problem"`
	// Unfit is set for a config that Docker cannot have, though it is as it came. No
	// repair helps: the image has to be removed.
	Unfit bool `json:"unfit,omitempty"`
}

// Error implements error.
func (d Damage) Error() string {
	what := "config " + string(d.Image)
	if d.Layer != "" {
		what = "layer " + string(cmp.Or(d.DiffID, d.Layer))
	}
	who := "no image has it"
	if len(d.Images) > 0 {
		who = "of " + strings.Join(d.Images, ", ")
	}
	if d.File != "" {
		return fmt.Sprintf("%s (%s): %s: %s", what, who, d.File, d.Problem)
	}
	return fmt.Sprintf("%s (%s): %s", what, who, d.Problem)
}

// Unwrap gives it its kind.
func (d Damage) Unwrap() error { return fault.New(fault.Corrupt, "%s", d.Problem) }

// Verify reads the files of the store once, and checks the following:
//
//   - Names lead to images.
//   - Configs hash to their IDs, and a dockerd starts with them.
//   - Each layer is on its parent, and where mounts look for it.
//   - The tar of each layer, made again from its files, hashes to its diffID, and its headers
//     fit the files.
//
// Verify takes no lock. A change that another process makes meanwhile is not reported as damage.
// An error of [fault.Exhausted] ends it, since then the process lacks something, and not the
// store.
func (r *Reader) Verify(ctx context.Context, o VerifyOptions) (v Verified, err error) {
	defer func() {
		if fault.Exhausted(err) {
			err = failed("verify", r.dir, err)
		}
	}()
	v.Good = make(map[digest.Digest]bool)
	st, err := r.stock()
	if err != nil {
		return v, err
	}
	form, err := r.form()
	if err != nil && !errors.Is(err, errUndecided) {
		return v, err
	}
	c := &verifier{r: r, st: st, o: o, form: form, v: &v, users: make(map[digest.Digest][]string), parents: make(map[digest.Digest]digest.Digest), diffs: make(map[digest.Digest]digest.Digest)}
	layers, err := c.images()
	if err != nil {
		return v, err
	}
	var total int64
	for _, chain := range layers {
		if l, err := r.Layer(chain); err == nil {
			total += l.Size
		}
	}
	if o.Expect != nil {
		o.Expect(total)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(openfiles.Layers(cmp.Or(max(o.Cores, 0), runtime.GOMAXPROCS(0))))
	for _, chain := range layers {
		g.Go(func() error { return c.layer(ctx, chain) })
	}
	if err := g.Wait(); err != nil {
		return v, err
	}
	v.Damages = slices.DeleteFunc(v.Damages, func(d Damage) bool { return !c.still(d) })
	if v.Damages == nil {
		v.Damages = []Damage{}
	}
	slices.SortStableFunc(v.Damages, func(a, b Damage) int {
		return cmp.Or(strings.Compare(string(a.Image), string(b.Image)), strings.Compare(string(a.Layer), string(b.Layer)), strings.Compare(a.File, b.File))
	})
	return v, nil
}

// verifier is the state of one Verify.
type verifier struct {
	r       *Reader
	st      *stock
	o       VerifyOptions
	form    unpackForm
	users   map[digest.Digest][]string      // layer → the images that have it
	parents map[digest.Digest]digest.Digest // as the configs say
	diffs   map[digest.Digest]digest.Digest // as the configs say

	mu sync.Mutex
	v  *Verified
}

func (c *verifier) damage(d Damage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.Images == nil {
		d.Images = []string{}
	}
	c.v.Damages = append(c.v.Damages, d)
}

// images looks at configs and names, and returns the layers that are to be looked
// at, those with the most bytes first.
func (c *verifier) images() ([]digest.Digest, error) {
	ids := make(map[digest.Digest]bool)
	for id := range c.st.images {
		ids[id] = true
	}
	for _, tags := range c.st.names.Repositories {
		for _, id := range tags {
			ids[id] = true // there or not
		}
	}
	want := make(map[digest.Digest]bool)
	for id := range ids {
		called := c.st.refs(id)
		if len(called) == 0 {
			called = []string{id.String()}
		}
		chosen := c.o.Images == nil || slices.Contains(c.o.Images, id)
		img, err := c.r.Image(id)
		if fault.Exhausted(err) {
			return nil, err
		}
		if err != nil {
			problem := err.Error()
			if errors.Is(err, fs.ErrNotExist) {
				problem = "there is a name for it, and it is missing"
			}
			if chosen {
				c.damage(Damage{Image: id, Images: called, Problem: problem})
			}
			continue
		}
		if err := image.CheckDocker(img.Image); err != nil && chosen {
			c.damage(Damage{Image: id, Images: called, Problem: err.Error(), Unfit: true})
		}
		if chosen {
			c.v.Images++
		}
		for _, l := range img.Layers {
			c.users[l.ChainID] = append(c.users[l.ChainID], called[0])
			c.parents[l.ChainID], c.diffs[l.ChainID] = l.Parent, l.DiffID
			want[l.ChainID] = want[l.ChainID] || chosen
		}
	}
	for chain := range c.st.entries {
		if c.o.Images == nil {
			want[chain] = true
		}
	}
	size := make(map[digest.Digest]int64)
	var list []digest.Digest
	for chain, wanted := range want {
		if !wanted || c.o.Good[chain] {
			continue
		}
		slices.Sort(c.users[chain])
		if l, err := c.r.Layer(chain); err == nil {
			size[chain] = l.Size
		}
		list = append(list, chain)
	}
	slices.SortFunc(list, func(a, b digest.Digest) int {
		return cmp.Or(cmp.Compare(size[b], size[a]), strings.Compare(string(a), string(b)))
	})
	return list, nil
}

// still reports whether the damaged object is unchanged: not removed or repaired meanwhile.
func (c *verifier) still(d Damage) bool {
	if d.Layer != "" {
		now, before := c.r.entryOf(d.Layer), c.st.entries[d.Layer]
		if before.cacheID == "" && now.cacheID == "" {
			return len(d.Images) == 0 || c.wanted(d.Layer)
		}
		return now.cacheID == before.cacheID
	}
	now, err := c.r.stock()
	if err != nil {
		return true
	}
	_, there := now.images[d.Image]
	if !there {
		return len(now.refs(d.Image)) > 0
	}
	_, err = c.r.Image(d.Image)
	return d.Unfit || err != nil
}

// wanted reports whether an image has the layer now.
func (c *verifier) wanted(chain digest.Digest) bool {
	now, err := c.r.stock()
	return err != nil || now.retained[chain] != ""
}

// PutConfig writes an image's config again, for an image with a name or a damaged config. The
// config must hash to id.
func (s *Store) PutConfig(ctx context.Context, id digest.Digest, config []byte) error {
	if digest.FromBytes(config) != id {
		return fault.New(fault.Corrupt, "the config is not that of the image %s", id)
	}
	unlock, err := s.lockLists(ctx, nil)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.stillOurs(ctx); err != nil {
		return err
	}
	st, err := s.stock()
	if err != nil {
		return err
	}
	name := s.path("image/overlay2/imagedb/content/sha256", id.Encoded())
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) && len(st.refs(id)) == 0 {
		return fmt.Errorf("mend image %s: %w", id, ErrGone)
	}
	return s.writeFile(name, 0o600, config)
}
