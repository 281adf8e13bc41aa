package overlay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/disk"
)

// RemoveOptions are the options of [Store.Remove].
type RemoveOptions struct {
	// Force also removes an image that is given by its ID and has names in several repositories,
	// and an image that a container uses, as docker rmi does.
	Force bool
	// Waiting is called once, by another goroutine, if another process has the lists
	// for a while. Nil is fine.
	Waiting func()
}

// Removal is what was removed.
type Removal struct {
	Untagged []string        `json:"untagged"` // names
	Deleted  []digest.Digest `json:"deleted"`  // images
	Layers   []digest.Digest `json:"layers"`   // chainIDs
	Freed    int64           `json:"freed"`    // bytes on the disk
	// Kept are layers that no image has any more, and that stay for now.
	Kept []KeptLayer `json:"kept,omitempty"`
}

// Remove removes an image, or one of its names. name is a name in Docker's familiar form, an
// ID, or the beginning of an ID. The rules are those of docker rmi. Layers that nothing else
// needs are removed, too.
//
// The order is that of a commit, backwards: first the image with its names, then its layers,
// those on top first. A crash leaves whole images, and layers for [Prune]. Removing an image
// needs no space on the disk. Removing one of several names does.
func (s *Store) Remove(ctx context.Context, name string, o RemoveOptions) (r Removal, err error) {
	defer func() {
		if err != nil && fault.KindOf(err) != fault.NotFound { // which names the image
			err = fmt.Errorf("remove %s: %w", name, denied(err))
		}
	}()
	r = Removal{Untagged: []string{}, Deleted: []digest.Digest{}, Layers: []digest.Digest{}}
	b := &bin{s: s}
	err = s.remove(ctx, name, o, &r, b)
	// No other process waits while the files go.
	err = errors.Join(err, b.empty())
	r.Freed += b.freed
	return r, err
}

func (s *Store) remove(ctx context.Context, name string, o RemoveOptions, r *Removal, b *bin) error {
	if err := mountsKnown(); err != nil {
		return err
	}
	st, unlock, err := s.lockStock(ctx, o.Waiting)
	if err != nil {
		return err
	}
	defer unlock()
	id, byName, err := st.find(name, &s.Reader)
	if err != nil {
		return err
	}
	drop, rest := st.drops(id, name, byName)
	if !byName && len(rest) > 0 && !o.Force {
		return fault.WithHint(fault.New(fault.Failed, "the image %.12s has several names: %s", id.Encoded(), strings.Join(append(drop, rest...), ", ")),
			"remove it by these, or with --force")
	}
	if !byName {
		drop, rest = append(drop, rest...), nil
	}
	var images []digest.Digest
	if len(rest) == 0 {
		if images, err = st.doomed(id, o.Force); err != nil {
			return err
		}
		if err := s.notMounted(st, mounts(), images); err != nil {
			return err
		}
	}
	if len(images) == 0 {
		return s.untag(st, drop, r)
	}
	return s.delete(st, images, r, b)
}

// drops returns which names go with one, and which are left: with the last tag in a
// repository the digests there go, too. Of an image that is meant by its ID, what
// goes at once is one tag and the digests in its repository.
func (st *stock) drops(id digest.Digest, name string, byName bool) (drop, rest []string) {
	refs := st.refs(id)
	if !byName {
		// The first tag, or else a digest: all of one repository come together.
		first := slices.IndexFunc(refs, func(ref string) bool { return !strings.Contains(ref, "@") })
		if len(refs) == 0 {
			return nil, nil
		}
		name = refs[max(first, 0)]
	}
	repo := repositoryOf(name)
	tags := 0
	for _, ref := range refs {
		if ref != name && repositoryOf(ref) == repo && !strings.Contains(ref, "@") {
			tags++
		}
	}
	for _, ref := range refs {
		byDigest := strings.Contains(ref, "@") && repositoryOf(ref) == repo
		if ref == name || byDigest && tags == 0 && (!byName || !strings.Contains(name, "@")) {
			drop = append(drop, ref)
		} else {
			rest = append(rest, ref)
		}
	}
	return drop, rest
}

// repositoryOf cuts off a name's tag or digest.
func repositoryOf(name string) string {
	if repo, _, ok := strings.Cut(name, "@"); ok {
		return repo
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i]
	}
	return name
}

// doomed returns the images that go with one: itself, and those without a name that
// it alone was built on. Those of Docker's containers, and those that others were
// built on, are refused.
func (st *stock) doomed(id digest.Digest, force bool) ([]digest.Digest, error) {
	if _, ok := st.images[id]; !ok {
		return nil, nil // a name of nothing
	}
	if c := st.containers[id]; len(c) > 0 && !force {
		return nil, fault.WithHint(fault.New(fault.Failed, "the image %.12s is used by the container %.12s of the Docker whose root this is", id.Encoded(), c[0]),
			"remove the container with that Docker, or the image with --force: the container keeps its layers")
	}
	children := make(map[digest.Digest]int)
	for _, parent := range st.parents {
		children[parent]++
	}
	if children[id] > 0 {
		return nil, fault.WithHint(fault.New(fault.Failed, "the image %.12s has %d images that were built on it", id.Encoded(), children[id]), "remove those first")
	}
	list := []digest.Digest{id}
	for parent := st.parents[id]; parent != ""; parent = st.parents[parent] {
		_, there := st.images[parent]
		if !there || children[parent] > 1 || len(st.refs(parent)) > 0 || len(st.containers[parent]) > 0 || slices.Contains(list, parent) {
			break
		}
		list = append(list, parent)
	}
	return list, nil
}

// notMounted refuses images whose layers would go, and are mounted.
func (r *Reader) notMounted(st *stock, m mounted, images []digest.Digest) error {
	rest := st.without(images)
	for _, id := range images {
		for _, chain := range st.images[id] {
			if rest.retained[chain] != "" {
				continue
			}
			if at := m.of(r, st.entries[chain]); at.dir != "" {
				return at.refuse(fault.New(fault.Failed, "the image %.12s is mounted at %s", id.Encoded(), at))
			}
		}
	}
	return nil
}

// untag takes names out of the list. The images stay. The caller has the lists.
func (s *Store) untag(st *stock, drop []string, r *Removal) error {
	if len(drop) == 0 {
		return nil
	}
	for repo, tags := range st.names.Repositories {
		for _, name := range drop {
			delete(tags, name)
		}
		if len(tags) == 0 {
			delete(st.names.Repositories, repo)
		}
	}
	err := perform([]step{{"untag", func() error { return s.putNames(st.names) }}})
	if disk.Full(err) {
		return fault.WithHint(err, "there is no space for the list without the name: remove the whole image by its ID, with --force, or make room with fastpull prune")
	}
	if err != nil {
		return err
	}
	r.Untagged = append(r.Untagged, drop...)
	return nil
}

// delete removes images, the first of which may have names, and the layers that no
// other image needs. The caller has the lists.
func (s *Store) delete(st *stock, images []digest.Digest, r *Removal, b *bin) error {
	for _, id := range images {
		if err := s.deleteImage(st, id, r); err != nil {
			return err
		}
	}
	err := s.deleteLayers(st, images, r, b)
	for _, id := range images {
		// There is space for the list of names now, if there was none before.
		if nerr := s.dropNames(id.Encoded() + removal); nerr != nil {
			err = errors.Join(err, fmt.Errorf("write the names of the images that are left: %w", nerr))
		}
	}
	return err
}

// deleteLayers removes the layers that images leave which are gone.
func (s *Store) deleteLayers(st *stock, images []digest.Digest, r *Removal, b *bin) error {
	rest := st.without(images)
	if bad := rest.unreadable(); bad != "" && len(images) > 0 {
		// Its layers are not known: any of these may be one.
		for _, id := range images {
			for _, chain := range st.images[id] {
				if rest.retained[chain] == "" {
					r.Kept = append(r.Kept, KeptLayer{chain, unknown(bad)})
				}
			}
		}
		return nil
	}
	if err := s.retainOthers(rest, nil); err != nil {
		return err
	}
	var layers []entry
	for _, e := range rest.free() {
		if slices.ContainsFunc(images, func(id digest.Digest) bool { return slices.Contains(st.images[id], e.chain) }) {
			layers = append(layers, e)
		}
	}
	return s.takeLayers(rest, layers, r, b)
}

// unknown is why layers stay where there is an image whose config cannot be read.
func unknown(bad digest.Digest) string {
	return fmt.Sprintf("the config of the image %.12s is missing or damaged, and it may have the layer", bad.Encoded())
}

// takeLayers takes layers away, and adds what became of them to r.
func (s *Store) takeLayers(st *stock, layers []entry, r *Removal, b *bin) error {
	// A layer that is not of these and stands on one of them needs it.
	for _, e := range layers {
		for _, child := range st.children[e.chain] {
			if _, there := st.entries[child]; there && !slices.ContainsFunc(layers, func(l entry) bool { return l.chain == child }) {
				st.retain(e.chain, "a layer on top of it stays")
			}
		}
	}
	if len(layers) > 0 {
		// Finding out what needs them may have taken a while.
		if err := refuseRunning(s.dir); err != nil {
			return err
		}
	}
	return s.takeAway(st, layers, r, b)
}
