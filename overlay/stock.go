package overlay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
)

// stock has the content of the lists, and what needs which of it. Code that acts on it reads
// it while it holds the lock of the lists.
type stock struct {
	names      names
	images     map[digest.Digest][]digest.Digest // chainIDs; nil if the config cannot be read
	diffs      map[digest.Digest][]digest.Digest // image → the diffIDs of its layers
	parents    map[digest.Digest]digest.Digest   // image → the one that it was built on, here
	containers map[digest.Digest][]string        // image → Docker's containers
	entries    map[digest.Digest]entry
	children   map[digest.Digest][]digest.Digest // layer → those on top of it
	retained   map[digest.Digest]string          // layer → why it stays
}

// stock reads the lists. Of layers it finds all that images and containers need,
// with those below.
func (r *Reader) stock() (*stock, error) {
	st := &stock{
		images: map[digest.Digest][]digest.Digest{}, diffs: map[digest.Digest][]digest.Digest{}, parents: map[digest.Digest]digest.Digest{},
		children: map[digest.Digest][]digest.Digest{}, retained: map[digest.Digest]string{},
	}
	var err error
	if st.names, err = r.names(); err != nil {
		return nil, err
	}
	ids, err := r.configs()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, denied(err)
	}
	for _, id := range ids {
		st.images[id] = nil
		if img, err := r.Image(id); err == nil {
			st.images[id] = []digest.Digest{}
			for _, l := range img.Layers {
				st.images[id] = append(st.images[id], l.ChainID)
				st.diffs[id] = append(st.diffs[id], l.DiffID)
			}
		}
	}
	below, err := r.contents("image/overlay2/imagedb/metadata/sha256", "parent")
	if err != nil {
		return nil, err
	}
	for name, parent := range below {
		id := digest.NewDigestFromEncoded(digest.SHA256, name)
		_, there := st.images[id]
		if d := digest.Digest(strings.TrimSpace(parent)); there && d.Validate() == nil {
			st.parents[id] = d
		}
	}
	if st.entries, err = r.entries(); err != nil {
		return nil, err
	}
	for chain, e := range st.entries {
		if e.parent != "" {
			st.children[e.parent] = append(st.children[e.parent], chain)
		}
	}
	if st.containers, err = r.containers(); err != nil {
		return nil, err
	}
	parents, err := r.contents("image/overlay2/layerdb/mounts", "parent")
	if err != nil {
		return nil, err
	}
	for _, parent := range parents {
		st.retain(digest.Digest(strings.TrimSpace(parent)), "a container of Docker's is made of it")
	}
	waiting, _, _ := r.Staging().Waiting() // what cannot be read cannot be published
	for _, img := range waiting {
		for _, l := range img.Layers {
			st.retain(l.ChainID, "a staged image has it")
		}
	}
	for _, chains := range st.images {
		for _, c := range chains {
			st.retain(c, retainedByImage)
		}
	}
	return st, nil
}

// lockStock locks and reads the lists for a caller that changes them. The caller must call
// unlock. waiting is that of lockLists.
func (s *Store) lockStock(ctx context.Context, waiting func()) (st *stock, unlock func(), err error) {
	if unlock, err = s.lockLists(ctx, waiting); err != nil {
		return nil, nil, err
	}
	if err = s.stillOurs(ctx); err == nil {
		st, err = s.stock()
	}
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return st, unlock, nil
}

const retainedByImage = "an image has it"

// retain notes why a layer stays. The layers below it stay too.
func (st *stock) retain(chain digest.Digest, why string) {
	for st.retained[chain] == "" && chain != "" {
		st.retained[chain] = why
		chain = st.entries[chain].parent
	}
}

// unreadable returns an image whose layers are not known, or "": its config cannot
// be read, or is missing where a name leads to it.
func (st *stock) unreadable() digest.Digest {
	for _, tags := range st.names.Repositories {
		for _, id := range tags {
			if _, there := st.images[id]; !there {
				return id
			}
		}
	}
	for id, chains := range st.images {
		if chains == nil {
			return id
		}
	}
	return ""
}

// free returns the layers that are not retained, topmost first.
func (st *stock) free() []entry {
	depth := func(e entry) (n int) {
		for ; e.parent != "" && n < len(st.entries); n++ {
			e = st.entries[e.parent]
		}
		return n
	}
	var list []entry
	for chain, e := range st.entries {
		if st.retained[chain] == "" {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b entry) int {
		return cmp.Or(depth(b)-depth(a), strings.Compare(a.chain.String(), b.chain.String()))
	})
	return list
}

// without returns the lists as they are when these images are removed.
func (st *stock) without(images []digest.Digest) *stock {
	rest := *st
	rest.images, rest.retained = map[digest.Digest][]digest.Digest{}, map[digest.Digest]string{}
	rest.names.Repositories = make(map[string]map[string]digest.Digest, len(st.names.Repositories))
	for repo, tags := range st.names.Repositories {
		tags = maps.Clone(tags)
		maps.DeleteFunc(tags, func(_ string, id digest.Digest) bool { return slices.Contains(images, id) })
		rest.names.Repositories[repo] = tags
	}
	for chain, why := range st.retained {
		if why != retainedByImage {
			rest.retain(chain, why)
		}
	}
	for id, chains := range st.images {
		if slices.Contains(images, id) {
			continue
		}
		rest.images[id] = chains
		for _, c := range chains {
			rest.retain(c, retainedByImage)
		}
	}
	return &rest
}

// refs returns the names of an image, in order.
func (st *stock) refs(id digest.Digest) []string { return st.names.refs(id) }

// find returns the image that a user names: by a name, an ID or the beginning of an ID.
func (st *stock) find(name string, r *Reader) (id digest.Digest, byName bool, err error) {
	if id, ok := st.names.id(name); ok {
		return id, true, nil
	}
	hex := strings.TrimPrefix(name, "sha256:")
	var found []digest.Digest
	for id := range st.images {
		if len(hex) >= 4 && strings.HasPrefix(id.Encoded(), hex) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 1:
		return found[0], false, nil
	case 0:
		return "", false, r.noImage(name)
	}
	return "", false, fault.New(fault.Usage, "%s fits %d images", name, len(found))
}

// containers returns the containers of a Docker whose root this is, by image.
func (r *Reader) containers() (map[digest.Digest][]string, error) {
	configs, err := r.contents("containers", "config.v2.json")
	if err != nil {
		return nil, err
	}
	all := make(map[digest.Digest][]string)
	for name, config := range configs {
		var c struct{ Image digest.Digest }
		if err := json.Unmarshal([]byte(config), &c); err != nil {
			return nil, fault.WithHint(
				fault.New(fault.Corrupt, "%s: what image the container has is not known: %w", r.path("containers", name, "config.v2.json"), err),
				"Docker cannot read it either: move %s elsewhere", r.path("containers", name))
		}
		all[c.Image] = append(all[c.Image], name)
	}
	return all, nil
}
