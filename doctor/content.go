package doctor

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/checkup"
	"github.com/fastpull/fastpull/internal/codec"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry/probe"
)

// Limits of what is fetched of the image beside a layer.
const (
	contentTimeout = 10 * time.Second // for its manifests and configs
	maxConfig      = 8 << 20          // bytes of a config
)

// image examines the image that the user named: its type, its platforms, and how fast its
// largest layer arrives. It reports whether there is an image that can be pulled.
func (v *visit) image(ctx context.Context) bool {
	m, ok := v.manifest(ctx)
	if !ok {
		return false
	}
	v.judgeLayers(m.Layers, v.formats(ctx, m.Layers))
	if len(m.Layers) > 0 {
		v.transfer(ctx, slices.MaxFunc(m.Layers, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Size, b.Size) }))
	}
	return true
}

// documents gives a tree the manifests and configs of the image's repository.
type documents struct{ *visit }

func (d documents) Manifest(ctx context.Context, desc ocispec.Descriptor) (mediaType string, raw []byte, err error) {
	m, err := d.client.ManifestOf(ctx, d.target.ref, desc)
	return m.MediaType, m.Bytes, err
}

func (d documents) Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	return d.client.ReadBlob(ctx, d.target.ref, desc, maxConfig)
}

// manifest gets the manifest of the platform that a pull would take.
func (v *visit) manifest(ctx context.Context) (m *image.Manifest, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, contentTimeout)
	defer cancel()
	got, err := v.client.Manifest(ctx, v.target.ref)
	if err != nil {
		f := Finding{Area: Registry, What: "manifest", Level: Problem, Text: checkup.Plain(err)}
		if fault.KindOf(err) == fault.Denied {
			f.Fix = []string{"fastpull login " + v.target.host() + "   # or: docker login " + v.target.host()}
		}
		v.found(f)
		return nil, false
	}
	tree, err := image.NewTree(documents{v}, got.MediaType, got.Digest, got.Bytes)
	if err != nil {
		v.say(Problem, "manifest", "%s", checkup.Plain(err))
		return nil, false
	}
	kind := "an image"
	if tree.Top.IsIndex() {
		kind = fmt.Sprintf("an index of %d", len(tree.Top.Manifests))
	}
	v.found(Finding{Area: Registry, What: "manifest", Level: OK,
		Text: fmt.Sprintf("%s is %s, %s, %s of %s, from %s", v.target.ref, got.Digest, kind, progress.Bytes(int64(len(got.Bytes))), got.MediaType, got.From),
		Facts: map[string]any{
			"digest": got.Digest.String(), "mediaType": got.MediaType, "size": len(got.Bytes), "from": got.From,
		}})
	if !tree.Top.IsIndex() {
		return tree.Top.Manifest, true
	}
	return v.choose(ctx, tree)
}

// choose reports the platforms of an index, and returns the manifest that a pull would choose.
func (v *visit) choose(ctx context.Context, tree *image.Tree) (m *image.Manifest, ok bool) {
	want := image.Host()
	if engine, err := v.docker(ctx); err == nil {
		want = engine.Platform()
	}
	leaf, err := tree.Select(ctx, want)
	if err != nil {
		v.say(Problem, "platforms", "%s", checkup.Plain(err))
		return nil, false
	}
	if e := v.engine.engine; len(leaf.Entry.In) > 0 && e != nil && e.Facts().Major() < 23 {
		v.layers = append(v.layers, fmt.Sprintf("an index in its index, which Docker takes from 23.0 on, and this is %s", e.Facts().Version))
	}
	list, err := tree.Platforms(ctx)
	if err != nil {
		v.say(Unknown, "platforms", "a pull takes %s; which others it has is not known: %s", image.FormatPlatform(want), checkup.Plain(err))
		return leaf.Manifest, true
	}
	v.found(Finding{Area: Registry, What: "platforms", Level: OK, Facts: map[string]any{"platforms": list},
		Text: fmt.Sprintf("it has %s; a pull takes %s", some(list, 10), image.FormatPlatform(want))})
	return leaf.Manifest, true
}

func isForeign(mediaType string) bool {
	return strings.Contains(mediaType, "foreign") || strings.Contains(mediaType, "nondistributable")
}

// judgeLayers reports the formats of the layers, and those that docker pull cannot handle well.
// Where a format is not known, the media type counts.
func (v *visit) judgeLayers(layers []ocispec.Descriptor, formats map[digest.Digest]codec.Format) {
	var total int64
	counts := map[codec.Format]int{}
	foreign, mislabelled := 0, 0
	for _, l := range layers {
		total += l.Size
		label := labelOf(l.MediaType)
		format, known := formats[l.Digest]
		if !known {
			format = label
		}
		if format == codec.Empty {
			format = codec.Tar
		}
		counts[format]++
		if known && label != codec.Unknown && format != label {
			mislabelled++
		}
		if isForeign(l.MediaType) {
			foreign++
		}
	}
	var kinds []string
	f := Finding{Area: Registry, What: "layers", Level: OK, Facts: map[string]any{"layers": len(layers), "bytes": total}}
	for _, format := range []codec.Format{codec.Gzip, codec.Zstd, codec.Xz, codec.Bzip2, codec.Tar, codec.Unknown} {
		if n := counts[format]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", n, format))
			f.Facts[format.String()] = n
		}
	}
	f.Text = fmt.Sprintf("%d, %s in all: %s", len(layers), progress.Bytes(total), strings.Join(kinds, ", "))
	if mislabelled > 0 {
		f.Level = Warning
		f.Facts["mislabelled"] = mislabelled
		f.Text += fmt.Sprintf("; %d not what their media types say: fastpull and Docker go by the bytes, containerd by the type", mislabelled)
	}
	if len(layers) == 0 {
		f.Text = "none"
	}
	if len(layers) > image.MaxLayers {
		f.Level = Problem
		f.Text += fmt.Sprintf("; that is more than the %d that Docker and a store can have: --rootfs and bundles take them", image.MaxLayers)
	}
	v.found(f)
	v.layers = append(v.layers, v.tripsOver(counts, foreign)...)
}

// tripsOver says what docker pull trips over in layers of these formats.
func (v *visit) tripsOver(counts map[codec.Format]int, foreign int) (list []string) {
	if n := counts[codec.Zstd]; n > 0 {
		if e := v.engine.engine; e != nil && e.Facts().Major() < 23 {
			list = append(list, fmt.Sprintf("zstd layers: %d, which Docker reads from 23.0 on, and this is %s", n, e.Facts().Version))
		}
	}
	if foreign > 0 {
		list = append(list, fmt.Sprintf("foreign layers: %d, which come from another place than the registry, and that has to be reached, too", foreign))
	}
	if n := counts[codec.Gzip]; n > 0 {
		for _, f := range v.report.Findings {
			if f.Level == Problem && (f.Area == Decompressors || f.Area == Stuck) {
				list = append(list, fmt.Sprintf("gzip layers: %d, which it hands to a program that does not work here, see %s: %s", n, f.Area, f.What))
				break
			}
		}
	}
	return list
}

// Bounds of what is fetched to see how it comes.
const (
	oneBytes    = 4 << 20 // by one connection
	severalEach = 2 << 20 // by each of several
	several     = 4
	sampleTime  = 3 * time.Second
	fewToTell   = 256 << 10 // fewer bytes tell nothing of a rate
)

// transfer fetches parts of a layer.
func (v *visit) transfer(ctx context.Context, d ocispec.Descriptor) {
	one, err := probe.Take(ctx, v.client, v.target.ref, d, 0, min(d.Size, oneBytes), sampleTime)
	if err != nil {
		v.say(Problem, "layer", "the largest one does not come: %s", checkup.Plain(err))
		return
	}
	v.found(Finding{Area: Registry, What: "first byte", Level: OK, Facts: map[string]any{"seconds": one.FirstByte.Seconds(), "from": one.From},
		Text: fmt.Sprintf("it came %s after the largest layer was asked for, from %s", ms(one.FirstByte), one.From)})
	ranges := v.ranges(ctx, d, one)
	v.rate(ctx, d, one, ranges)
}

// ranges requests a small range of a blob that was downloaded, and compares the bytes.
func (v *visit) ranges(ctx context.Context, d ocispec.Descriptor, whole probe.Sample) (right bool) {
	have := int64(len(whole.Head))
	if d.Size < 4 || have < 4 {
		return false
	}
	first := have / 2
	n := min(have-first-1, 4<<10)
	got, err := probe.Take(ctx, v.client, v.target.ref, d, first, n, sampleTime)
	wrong := got.Wrong
	switch {
	case err != nil:
		wrong = checkup.Plain(err)
	case wrong != "":
		wrong = "the answer was " + wrong
	case got.Bytes != n:
		wrong = fmt.Sprintf("%d bytes came", got.Bytes)
	case string(got.Head) != string(whole.Head[first:first+n]):
		wrong = "other bytes came than those"
	}
	if wrong == "" {
		v.say(OK, "ranges", "bytes %d to %d of a layer came when they were asked for: transfers can be resumed, and several connections share in one", first, first+n-1)
		return true
	}
	v.say(Warning, "ranges", "the registry gets ranges wrong: asked for bytes %d to %d of %d, %s; a layer comes by one connection, and after an interruption from its beginning", first, first+n-1, d.Size, wrong)
	return false
}

// rate says how fast one connection is, and several.
func (v *visit) rate(ctx context.Context, d ocispec.Descriptor, one probe.Sample, ranges bool) {
	if one.Bytes < fewToTell {
		v.say(OK, "rate", "not measured: the largest layer has %s, and %s came in %v", progress.Bytes(d.Size), progress.Bytes(one.Bytes), sampleTime)
		return
	}
	perSecond := func(n int64, took time.Duration) float64 { return float64(n) / max(took.Seconds(), 1e-6) }
	f := Finding{Area: Registry, What: "rate", Level: OK, Facts: map[string]any{"one": perSecond(one.Bytes, one.Took)}}
	f.Text = "one connection brings " + progress.Rate(one.Bytes, max(one.Took, time.Microsecond))
	if each := min(severalEach, d.Size/several-1); ranges && each >= fewToTell {
		if n, took, err := v.together(ctx, d, each); err == nil {
			f.Facts["several"] = perSecond(n, took)
			f.Text += fmt.Sprintf(", %d together %s", several, progress.Rate(n, max(took, time.Microsecond)))
		} else {
			f.Level = Warning
			f.Text += fmt.Sprintf("; %d at a time fail: %s", several, checkup.Plain(err))
		}
	}
	if perSecond(one.Bytes, one.Took) < 100<<10 {
		f.Level = Warning
		f.Text += "; that is slow"
	}
	v.found(f)
}

// together fetches by several connections at a time. Like that of one, the time is from
// the first byte to the last one.
func (v *visit) together(ctx context.Context, d ocispec.Descriptor, each int64) (n int64, took time.Duration, err error) {
	type part struct {
		probe.Sample
		err error
	}
	parts := make(chan part, several)
	first := time.Duration(math.MaxInt64)
	var last time.Duration
	for i := range int64(several) {
		go func() {
			t, err := probe.Take(ctx, v.client, v.target.ref, d, 1+i*(d.Size/several), each, sampleTime)
			parts <- part{t, err}
		}()
	}
	for range several {
		p := <-parts
		if n += p.Bytes; p.err != nil {
			err = p.err
		}
		first, last = min(first, p.FirstByte), max(last, p.FirstByte+p.Took)
	}
	return n, max(last-first, 0), err
}
