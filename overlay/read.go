package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// Layer is a layer of the store.
type Layer struct {
	ChainID digest.Digest
	DiffID  digest.Digest
	Parent  digest.Digest // chainID, "" for a base
	CacheID string        // its folder in overlay2/
	Size    int64         // bytes of its files

	below bool // it is in the data-root that a staging store is for
}

// Layer returns the layer of that chainID, or an error that is fs.ErrNotExist.
// A layer whose files are gone is not there. A staging store has the layers of its
// data-root, too.
func (r *Reader) Layer(chain digest.Digest) (Layer, error) {
	l, err := r.layer(chain)
	if r.base == nil || !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	l, err = r.base.layer(chain)
	l.below = true
	return l, err
}

// layer is Layer, of this directory alone.
func (r *Reader) layer(chain digest.Digest) (Layer, error) {
	if err := chain.Validate(); err != nil {
		return Layer{}, err
	}
	get := func(name string) string {
		return r.path("image/overlay2/layerdb", chain.Algorithm().String(), chain.Encoded(), name)
	}
	l := Layer{ChainID: chain}
	var size, diff, parent string
	for _, f := range []struct {
		name     string
		to       *string
		optional bool
	}{{"cache-id", &l.CacheID, false}, {"diff", &diff, false}, {"size", &size, false}, {"parent", &parent, true}} {
		data, err := os.ReadFile(get(f.name))
		if err != nil && (!f.optional || !errors.Is(err, fs.ErrNotExist)) {
			return Layer{}, err
		}
		*f.to = strings.TrimSpace(string(data))
	}
	var err error
	if l.Size, err = strconv.ParseInt(size, 10, 64); err != nil {
		return Layer{}, fault.New(fault.Corrupt, "%s: %w", get("size"), err)
	}
	l.DiffID, l.Parent = digest.Digest(diff), digest.Digest(parent)
	if err := l.DiffID.Validate(); err != nil {
		return Layer{}, fault.New(fault.Corrupt, "%s: %w", get("diff"), err)
	}
	if !isCacheID(l.CacheID) {
		return Layer{}, fault.New(fault.Corrupt, "%s: %q is no cache-id", get("cache-id"), l.CacheID)
	}
	if _, err := os.Stat(r.diffDir(l)); err != nil {
		return Layer{}, err
	}
	return l, nil
}

// home returns the store whose directory has the layer.
func (r *Reader) home(l Layer) *Reader {
	if l.below {
		return r.base
	}
	return r
}

func (r *Reader) diffDir(l Layer) string { return r.home(l).path("overlay2", l.CacheID, "diff") }

// DiffDir returns the folder that holds the files of a layer.
func (r *Reader) DiffDir(l Layer) string { return r.diffDir(l) }

// Chain returns the layers of an image that the store has, the base first. It
// ends before the first that is missing.
func (r *Reader) Chain(layers []image.Layer) []Layer {
	var have []Layer
	for _, l := range layers {
		got, err := r.Layer(l.ChainID)
		if err != nil || got.DiffID != l.DiffID {
			break
		}
		have = append(have, got)
	}
	return have
}

// Same returns a layer of the store that has this diffID, on whatever parent.
func (r *Reader) Same(diffID digest.Digest) (Layer, bool) {
	l, ok := r.same(diffID)
	if r.base == nil || ok {
		return l, ok
	}
	l, ok = r.base.same(diffID)
	l.below = true
	return l, ok
}

// same is Same, of this directory alone.
func (r *Reader) same(diffID digest.Digest) (Layer, bool) {
	entries, err := os.ReadDir(r.path("image/overlay2/layerdb/sha256"))
	if err != nil {
		return Layer{}, false
	}
	for _, e := range entries {
		diff, err := os.ReadFile(r.path("image/overlay2/layerdb/sha256", e.Name(), "diff"))
		if err != nil || strings.TrimSpace(string(diff)) != diffID.String() {
			continue
		}
		if l, err := r.layer(digest.NewDigestFromEncoded(digest.SHA256, e.Name())); err == nil {
			return l, true
		}
	}
	return Layer{}, false
}

// lowers returns the content of the file "lower" of a layer on top of l: the short IDs of l and
// of all layers below it.
func (r *Reader) lowers(l Layer) ([]string, error) {
	r = r.home(l)
	short, err := os.ReadFile(r.path("overlay2", l.CacheID, "link"))
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", l.DiffID, err)
	}
	names := []string{"l/" + strings.TrimSpace(string(short))}
	lower, err := os.ReadFile(r.path("overlay2", l.CacheID, "lower"))
	if errors.Is(err, fs.ErrNotExist) {
		return names, nil
	}
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", l.DiffID, err)
	}
	return append(names, strings.Split(strings.TrimSpace(string(lower)), ":")...), nil
}
