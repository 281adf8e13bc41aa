package dockerroot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/decode"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/fetch"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/nameset"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
)

// Mended is what [Repair] has put right.
type Mended struct {
	Configs []digest.Digest `json:"configs"` // image IDs
	Layers  []digest.Digest `json:"layers"`  // diffIDs
	Fetched int64           `json:"bytesFetched"`
}

// RepairOptions are the options of [Repair].
type RepairOptions struct {
	Registry *registry.Client
	Path     string // of the store
	Layers   int    // that are worked on at a time, as in [fetch.New]
	Gzip     decode.Gzip
	NoResume bool
	Progress *progress.Display
}

// Repair fetches damaged parts of a store again, from the repositories that the images' names
// and Docker's notes on its layers name. It verifies them as a pull does, and replaces each
// damaged part at once.
//
// The error is about damage that stays. Configs that are unfit for Docker are not in it.
func Repair(ctx context.Context, o RepairOptions, damages []overlay.Damage) (m Mended, err error) {
	m = Mended{Configs: []digest.Digest{}, Layers: []digest.Digest{}}
	src := source.Registries(o.Registry)
	env := &destination.Env{
		Source: src, Progress: o.Progress, Rights: privilege.Current(), Names: new(nameset.Budget), LeftOut: new(destination.LeftOut),
	}
	fetcher := fetch.New(src, o.Layers, o.Gzip, o.Progress)
	s, err := open(ctx, env, o.Path)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	p := &repair{s: s, client: o.Registry, fetcher: fetcher, manifests: make(map[registry.Reference][]*image.Manifest)}
	if !o.NoResume {
		p.fetcher.Partial = fetch.NewPartialBlobs(s.Info().PartialDir)
		p.fetcher.Partial.Sweep()
	}

	var failures []error
	for _, d := range once(damages, func(d overlay.Damage) digest.Digest { return d.Image }) {
		if d.Unfit { // the registry has the same
			continue
		}
		if err := p.config(ctx, d.Image); err != nil {
			failures = append(failures, fmt.Errorf("mend image %s: %w", d.Image, p.advise(err, d)))
			continue
		}
		m.Configs = append(m.Configs, d.Image)
	}
	layers, err := p.layers(ctx, once(damages, func(d overlay.Damage) digest.Digest { return d.Layer }))
	m.Layers, m.Fetched = append(m.Layers, layers...), p.fetcher.Fetched()
	if ctx.Err() != nil {
		return m, context.Cause(ctx)
	}
	return m, errors.Join(append(failures, err)...)
}

// once returns the first of the damages of each thing, in order.
func once(damages []overlay.Damage, what func(overlay.Damage) digest.Digest) (list []overlay.Damage) {
	seen := map[digest.Digest]bool{"": true}
	for _, d := range damages {
		if !seen[what(d)] {
			seen[what(d)] = true
			list = append(list, d)
		}
	}
	return list
}

// repair is the state of one Repair.
type repair struct {
	s       *store
	client  *registry.Client
	fetcher *fetch.Fetcher
	fetched atomic.Int64

	mu        sync.Mutex
	manifests map[registry.Reference][]*image.Manifest // of one image each
}

// advise adds what the user can do where nothing can be fetched.
func (p *repair) advise(err error, d overlay.Damage) error {
	switch {
	case fault.HintOf(err) != "" || errors.Is(err, context.Canceled):
		return err
	case len(d.Images) == 0:
		return fault.WithHint(err, "no image has it: fastpull prune --store %s removes it", p.s.s.Dir())
	}
	return fault.WithHint(err, "try again when its registry has it, or remove what has it and pull that again: fastpull rm --store %[1]s %[2]s, fastpull pull --store %[1]s %[2]s", p.s.s.Dir(), d.Images[0])
}

// refs returns the references under which registries may have an image. References by digest
// come first, since a tag may have moved to another image.
func (p *repair) refs(id digest.Digest) (refs []registry.Reference, err error) {
	names, err := p.s.s.Names(id)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Compare(strings.Count(b, "@"), strings.Count(a, "@"))
	})
	for _, name := range names {
		if ref, err := registry.ParseReference(name); err == nil {
			refs = append(refs, ref)
		}
	}
	if len(refs) == 0 {
		return nil, fault.New(fault.NotFound, "no name tells where the image %.12s came from", id.Encoded())
	}
	return refs, nil
}

// manifest finds the manifest of an image in a registry, and the reference by which
// it was found.
func (p *repair) manifest(ctx context.Context, id digest.Digest) (*image.Manifest, registry.Reference, error) {
	refs, err := p.refs(id)
	if err != nil {
		return nil, registry.Reference{}, err
	}
	var failures []error
	for _, ref := range refs {
		list, err := p.all(ctx, ref)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		for _, m := range list {
			if m.Config.Digest == id {
				return m, ref, nil
			}
		}
		failures = append(failures, fault.New(fault.NotFound, "%s is another image by now", ref))
	}
	return nil, registry.Reference{}, errors.Join(failures...)
}

// all returns the manifests of all images that a reference names.
func (p *repair) all(ctx context.Context, ref registry.Reference) (list []*image.Manifest, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if list, ok := p.manifests[ref]; ok {
		return list, nil
	}
	got, err := p.s.env.Source.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	tree, err := source.Tree(p.s.env.Source, ref, got)
	if err != nil {
		return nil, err
	}
	if !tree.Top.IsIndex() {
		list = []*image.Manifest{tree.Top.Manifest}
	}
	err = image.Walk(tree.Top.Manifests, func(e image.Entry) ([]ocispec.Descriptor, error) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if e.Aside() {
			return nil, nil
		}
		doc, err := tree.Open(ctx, e.Descriptor)
		switch {
		case err != nil || doc.Manifest == nil: // of another platform, perhaps; or it is missed later
			return nil, nil
		case doc.IsIndex():
			return doc.Manifests, nil
		}
		list = append(list, doc.Manifest)
		return nil, nil
	})
	if err != nil {
		return nil, err
	}
	p.manifests[ref] = list
	return list, nil
}

// config fetches an image's config again.
func (p *repair) config(ctx context.Context, id digest.Digest) error {
	m, ref, err := p.manifest(ctx, id)
	if err != nil {
		return err
	}
	config, err := source.Config(ctx, p.s.env.Source, ref, m.Config)
	if err != nil {
		return err
	}
	img, err := image.New(m, config)
	if err != nil {
		return err
	}
	return p.s.s.PutConfig(ctx, id, img.Config)
}

// find returns where a layer can be fetched.
func (p *repair) find(ctx context.Context, d overlay.Damage, images []*overlay.Image) (wanted, error) {
	var failures []error
	for _, img := range images {
		at := slices.IndexFunc(img.Layers, func(l image.Layer) bool { return l.ChainID == d.Layer })
		if at < 0 {
			continue
		}
		m, ref, err := p.manifest(ctx, img.ID)
		if err == nil {
			var whole *image.Image
			if whole, err = image.New(m, img.Config); err == nil {
				return wanted{whole.Layers[at], ref, p.content(ref, whole.Layers[at])}, nil
			}
		}
		failures = append(failures, err)
	}
	l := image.Layer{DiffID: d.DiffID, ChainID: d.Layer, Parent: d.Parent}
	// Without an image it is the damaged layer itself that says what it is.
	if d.DiffID != "" && image.ChainID(d.Parent, d.DiffID) == d.Layer {
		for _, from := range p.s.s.Origins(d.DiffID) {
			ref, err := registry.ParseReference(from.Repository + "@" + from.Blob.String())
			if err != nil {
				continue
			}
			size, err := p.client.BlobSize(ctx, ref, from.Blob)
			if err != nil || size == 0 {
				failures = append(failures, err)
				continue
			}
			l.Blob = ocispec.Descriptor{Digest: from.Blob, Size: size}
			return wanted{l, ref, p.content(ref, l)}, nil
		}
	}
	if err := errors.Join(failures...); err != nil {
		return wanted{}, err
	}
	return wanted{}, fault.New(fault.NotFound, "nothing tells where it came from")
}

// layers fetches layers again, side by side, and puts them in their places, those
// below first. It returns the diffIDs of those that are.
func (p *repair) layers(ctx context.Context, damages []overlay.Damage) (done []digest.Digest, err error) {
	images, _ := p.s.s.Images() // those that can be read: the others' layers are not known
	depth := func(d overlay.Damage) int {
		for _, img := range images {
			if at := slices.IndexFunc(img.Layers, func(l image.Layer) bool { return l.ChainID == d.Layer }); at >= 0 {
				return at
			}
		}
		return image.MaxLayers
	}
	slices.SortStableFunc(damages, func(a, b overlay.Damage) int { return cmp.Compare(depth(a), depth(b)) })
	all, failures := make([]*made, len(damages)), make([]error, len(damages))
	var g errgroup.Group
	for i, d := range damages {
		g.Go(func() error {
			all[i], failures[i] = p.make(ctx, d, images)
			return nil
		})
	}
	_ = g.Wait()
	defer func() {
		for _, m := range all {
			if m != nil {
				err = errors.Join(err, m.abort())
			}
		}
	}()
	for i, m := range all {
		if failures[i] == nil {
			failures[i] = m.commit(ctx, p.s.s)
		}
		if failures[i] != nil {
			failures[i] = fmt.Errorf("mend layer %s: %w", cmp.Or(damages[i].DiffID, damages[i].Layer), p.advise(failures[i], damages[i]))
			continue
		}
		done = append(done, m.DiffID)
	}
	if len(done) == len(all) {
		p.fetcher.Partial.ReleaseAll()
	}
	return done, errors.Join(failures...)
}

// make gets a layer ready that takes the place of a damaged one.
func (p *repair) make(ctx context.Context, d overlay.Damage, images []*overlay.Image) (_ *made, err error) {
	l, err := p.find(ctx, d, images)
	if err != nil {
		return nil, err
	}
	st, err := p.s.s.Mend(ctx, l.ChainID, l.Parent, l.DiffID, func() {
		p.s.env.Progress.Note("another fastpull is working on layer %.19s, waiting for it", l.Blob.Digest)
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.Abort())
		}
	}()
	m := &made{wanted: l, st: st}
	if err = p.s.fetch(ctx, m); err == nil {
		err = m.seal(ctx)
	}
	l.content.End(ctx, err)
	return m, err
}

// content returns the content of a layer.
func (p *repair) content(ref registry.Reference, l image.Layer) *destination.Content {
	return destination.NewContent(p.fetcher, ref, l, p.s.env.Progress, &p.fetched)
}
