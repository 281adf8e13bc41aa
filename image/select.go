package image

import (
	"context"
	"errors"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// Leaf is an image of a tree.
type Leaf struct {
	Entry Entry // without a path if the image is the top of the tree
	*Document
}

// Select returns the image of the tree that runs best on the wanted platform, and the first of
// several that run equally well. The platform that an entry names is not verified. If no entry
// names exactly the wanted platform, entries without a platform are opened, and their configs
// read. An index is opened if its platform fits or is not named.
//
// A tree of a single image returns that image, whatever its platform is. If no image fits, the
// error of kind [fault.NotFound] lists the platforms.
func (t *Tree) Select(ctx context.Context, want ocispec.Platform) (*Leaf, error) {
	if !t.Top.IsIndex() {
		d := ocispec.Descriptor{MediaType: t.Top.MediaType, Digest: t.Top.Digest, Size: int64(len(t.Top.Bytes))}
		return &Leaf{Entry{Descriptor: d}, t.Top}, nil
	}
	c := choice{t: t, runs: func(p ocispec.Platform) int { return Runs(want, p) }}
	for _, all := range []bool{false, true} {
		if err := c.look(ctx, all); err != nil {
			return nil, err
		}
	}
	if c.score == 0 {
		return nil, c.none(want)
	}
	doc, err := t.Open(ctx, c.best.Descriptor)
	if err != nil {
		return nil, err
	}
	if doc.Manifest == nil {
		return nil, doc.why
	}
	return &Leaf{c.best, doc}, nil
}

// Platforms returns the platforms that the tree has images for, in its order and each
// once. Entries that name their platforms are believed, and not opened.
func (t *Tree) Platforms(ctx context.Context) ([]string, error) {
	c := choice{t: t, runs: func(p ocispec.Platform) int {
		if p.Architecture == "" {
			return 1 // so that it is opened
		}
		return 0
	}}
	err := c.look(ctx, true)
	return c.have, err
}

// choice looks for the image of a tree that runs best.
type choice struct {
	t    *Tree
	runs func(ocispec.Platform) int // how well, as [Runs] tells it

	best   Entry
	score  int      // of best, 0 without one
	have   []string // the platforms that there are
	missed error    // why an entry could not be looked at
}

var errEnough = errors.New("there is none better")

// look goes through the tree, also through what names no platform if all is set.
func (c *choice) look(ctx context.Context, all bool) error {
	c.have, c.missed = nil, nil
	err := Walk(c.t.Top.Manifests, func(e Entry) ([]ocispec.Descriptor, error) {
		if c.score == runsBest {
			return nil, errEnough
		}
		p, known := e.names()
		switch {
		case e.Aside():
			return nil, nil
		case e.Platform != nil && c.runs(p) == 0, known && slices.Contains(manifestTypes, e.MediaType):
			c.take(e, p)
			return nil, nil
		case !known && (!all || !slices.Contains(openTypes, e.MediaType)):
			return nil, nil
		}
		return c.open(ctx, e, p, known)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// open opens an entry whose document says more than the entry does, and returns the entries of
// an index. It skips a document that cannot be an image. An entry that cannot be fetched now is
// an error: the choice must not depend on that.
func (c *choice) open(ctx context.Context, e Entry, p ocispec.Platform, known bool) ([]ocispec.Descriptor, error) {
	pass := func(why error) ([]ocispec.Descriptor, error) {
		c.missed = why
		return nil, nil
	}
	doc, err := c.t.Open(ctx, e.Descriptor)
	switch {
	case fault.KindOf(err) == fault.NotFound:
		return pass(err)
	case err != nil:
		return nil, err
	case doc.Manifest == nil:
		return pass(doc.why)
	case doc.IsIndex():
		return doc.Manifests, nil
	case known:
		c.take(e, p)
		return nil, nil
	}
	config, err := c.t.config(ctx, doc.Config)
	switch {
	case fault.KindOf(err) == fault.NotFound:
		return pass(err)
	case err != nil:
		return nil, err
	}
	img, err := joined(e, doc, config)
	if err != nil {
		return pass(err)
	}
	c.take(e, img.Platform)
	return nil, nil
}

// take makes an image the best if none was as good.
func (c *choice) take(e Entry, p ocispec.Platform) {
	if p.OS == "unknown" {
		return // an attestation, as its config says
	}
	if s := c.runs(p); s > c.score {
		c.best, c.score = e, s
	}
	if name := FormatPlatform(p); !slices.Contains(c.have, name) {
		c.have = append(c.have, name)
	}
}

// none says that no image runs on the wanted platform, and which platforms there are.
func (c *choice) none(want ocispec.Platform) error {
	slices.Sort(c.have)
	there := strings.Join(c.have, ", ")
	switch {
	case there == "" && c.missed != nil:
		return c.missed
	case there == "":
		return fault.New(fault.NotFound, "the index has no image for any platform")
	case c.missed != nil:
		return fault.New(fault.NotFound, "there is no image for %s, only for %s, and of another it is not known what it is for: %w", FormatPlatform(want), there, c.missed)
	}
	return fault.WithHint(
		fault.New(fault.NotFound, "there is no image for %s, only for %s", FormatPlatform(want), there),
		"choose one of them with --platform")
}

// attestation is the annotation by which BuildKit marks an entry that describes
// another entry of the index.
const attestation = "vnd.docker.reference.type"

// Aside reports whether an entry is no image but goes with one: an attestation, a signature or
// another artifact.
func (e Entry) Aside() bool {
	switch {
	case e.Annotations[attestation] != "":
		return true
	case e.Platform != nil && e.Platform.OS == "unknown":
		return true
	}
	return e.ArtifactType != "" && !slices.Contains(configTypes[:2], e.ArtifactType)
}

var (
	manifestTypes = []string{DockerManifest, ocispec.MediaTypeImageManifest}
	openTypes     = append([]string{DockerManifestList, ocispec.MediaTypeImageIndex, ""}, manifestTypes...)
)

// names returns the platform that the entry names, and whether that includes an
// architecture.
func (e Entry) names() (p ocispec.Platform, ok bool) {
	if e.Platform != nil {
		p = Normalize(*e.Platform)
	}
	return p, p.Architecture != ""
}
