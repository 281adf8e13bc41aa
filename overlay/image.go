package overlay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// Image is an image of the store.
type Image struct {
	*image.Image
	Names []string // tags and digests: "host:5000/img:tag", "host:5000/img@sha256:…"
}

const namesFile = "image/overlay2/repositories.json"

// names is repositories.json: repository → name → image ID.
type names struct {
	Repositories map[string]map[string]digest.Digest
}

func (r *Reader) names() (names, error) {
	n := names{Repositories: map[string]map[string]digest.Digest{}}
	data, err := os.ReadFile(r.path(namesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return n, fmt.Errorf("read the names of images: %w", denied(err))
	}
	if err := json.Unmarshal(data, &n); err != nil {
		file := r.path(namesFile)
		return n, fault.WithHint(fault.New(fault.Corrupt, "read the names of images: %s: %w", file, err),
			"it is damaged: move it away, and pull the images again, which gives them their names and fetches only what is missing")
	}
	if n.Repositories == nil {
		n.Repositories = map[string]map[string]digest.Digest{}
	}
	gone, err := r.leaving()
	if err != nil {
		return n, denied(err)
	}
	n.forget(func(id digest.Digest) bool { return gone[id] })
	return n, nil
}

// forget removes the names of images, and the repositories that have no names then.
func (n names) forget(gone func(id digest.Digest) bool) {
	for _, tags := range n.Repositories {
		maps.DeleteFunc(tags, func(_ string, id digest.Digest) bool { return gone(id) })
	}
	maps.DeleteFunc(n.Repositories, func(_ string, tags map[string]digest.Digest) bool { return len(tags) == 0 })
}

// id returns the image that has the name.
func (n names) id(name string) (id digest.Digest, ok bool) {
	for _, tags := range n.Repositories {
		if id, ok := tags[name]; ok {
			return id, true
		}
	}
	return "", false
}

// refs returns the names of an image, in order.
func (n names) refs(id digest.Digest) (list []string) {
	for _, tags := range n.Repositories {
		for name, to := range tags {
			if to == id {
				list = append(list, name)
			}
		}
	}
	slices.Sort(list)
	return list
}

// configs lists the images whose configs the store has. A file of Docker's that never got
// its name is none.
func (r *Reader) configs() (ids []digest.Digest, err error) {
	entries, err := os.ReadDir(r.path("image/overlay2/imagedb/content/sha256"))
	for _, e := range entries {
		if id := digest.NewDigestFromEncoded(digest.SHA256, e.Name()); id.Validate() == nil {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// ID returns the image that has the name, a tag or a digest in Docker's familiar
// form, or "".
func (r *Reader) ID(name string) (digest.Digest, error) {
	n, err := r.names()
	if err != nil {
		return "", err
	}
	id, _ := n.id(name)
	if id == "" && r.base != nil {
		return r.base.ID(name)
	}
	return id, nil
}

// Image returns the image of that ID, or an error that is fs.ErrNotExist. Names
// is not set.
func (r *Reader) Image(id digest.Digest) (*Image, error) {
	if err := id.Validate(); err != nil {
		return nil, fault.New(fault.Corrupt, "%q is no image ID: %w", string(id), err)
	}
	name := r.path("image/overlay2/imagedb/content", id.Algorithm().String(), id.Encoded())
	config, err := os.ReadFile(name)
	if r.base != nil && errors.Is(err, fs.ErrNotExist) {
		return r.base.Image(id)
	}
	if err != nil {
		return nil, err
	}
	if digest.FromBytes(config) != id {
		return nil, fault.New(fault.Corrupt, "%s is not what its name says", name)
	}
	img, err := image.Parse(config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Image{Image: img}, nil
}

// Images lists the images of the store, the newest first. If some images cannot be read, it
// returns the others and an error.
func (r *Reader) Images() ([]*Image, error) {
	ids, err := r.configs()
	if err != nil {
		return nil, denied(err)
	}
	n, err := r.names()
	if err != nil {
		return nil, err
	}
	byID := make(map[digest.Digest][]string)
	for _, tags := range n.Repositories {
		for name, id := range tags {
			byID[id] = append(byID[id], name)
		}
	}
	var list []*Image
	var damaged []error
	for _, id := range ids {
		img, err := r.Image(id)
		if err != nil {
			damaged = append(damaged, fault.WithHint(fmt.Errorf("read the image %.12s: %w", id.Encoded(), denied(err)),
				"fastpull verify --repair --store %s fetches again what is damaged", r.dir))
			continue
		}
		img.Names = byID[img.ID]
		slices.Sort(img.Names)
		list = append(list, img)
	}
	slices.SortStableFunc(list, func(a, b *Image) int { return b.Created.Compare(a.Created) })
	return list, errors.Join(damaged...)
}

// Find returns the image that a user means: by a name in Docker's familiar form,
// by an ID, or by the beginning of one.
func (r *Reader) Find(name string) (*Image, error) {
	id, err := r.ID(name)
	if err != nil {
		return nil, err
	}
	list, damaged := r.Images()
	var found []*Image
	hex := strings.TrimPrefix(name, "sha256:")
	for _, img := range list {
		if id != "" && img.ID == id || id == "" && len(hex) >= 4 && strings.HasPrefix(img.ID.Encoded(), hex) {
			found = append(found, img)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		if damaged != nil {
			return nil, fmt.Errorf("find image %s: %w", name, damaged)
		}
		return nil, r.noImage(name)
	}
	return nil, fault.New(fault.Usage, "%s fits %d images", name, len(found))
}

// noImage is the error of a name that leads to no image.
func (r *Reader) noImage(name string) error {
	err := fault.New(fault.NotFound, "there is no image %s in the store %s", name, r.dir)
	staged := r.Staging()
	if n, nerr := staged.names(); nerr == nil {
		if id, _ := n.id(name); id != "" {
			return fault.WithHint(err, "it is staged, and not published: --store %s looks at it there", staged.dir)
		}
	}
	return fault.WithHint(err, "`fastpull images --store %s` lists those there are", r.dir)
}

// Resolve returns the ID of the image that a user means, as Find does, whether the
// image can be read or not.
func (r *Reader) Resolve(name string) (digest.Digest, error) {
	st, err := r.stock()
	if err != nil {
		return "", err
	}
	id, _, err := st.find(name, r)
	return id, err
}

// Names returns the names of an image, also of one that cannot be read.
func (r *Reader) Names(id digest.Digest) ([]string, error) {
	n, err := r.names()
	if err != nil {
		return nil, err
	}
	return n.refs(id), nil
}

// PutImage records an image under names: a repository in Docker's familiar form, and tags or
// digests of it. A name that another image had moves to this one. The names are on the disk
// after [Store.Sync].
//
// All layers of the image must be in the store. The error is [ErrGone] if one is missing.
// PutImage also refuses an image that [image.CheckDocker] refuses.
func (s *Store) PutImage(ctx context.Context, img *image.Image, repository string, refs []string) error {
	if err := image.CheckDocker(img); err != nil {
		return err
	}
	unlock, err := s.lockLists(ctx, nil)
	if err != nil {
		return err
	}
	defer unlock()
	// A process that removes layers holds the lock of the lists, too: what is there now stays
	// for the image.
	if have := s.Chain(img.Layers); len(have) != len(img.Layers) {
		return fmt.Errorf("record image %s: layer %s: %w", img.ID, img.Layers[len(have)].DiffID, ErrGone)
	}
	if err := s.stillOurs(ctx); err != nil {
		return err
	}
	n, err := s.names() // before the config is there: names of a removal that was killed go
	if err != nil {
		return err
	}
	if there, err := s.below(img, n, refs); there || err != nil {
		return err
	}
	s.durable.name()
	content := s.config(img.ID)
	if have, err := os.ReadFile(content); err != nil || !bytes.Equal(have, img.Config) {
		if err := s.writeFile(content, 0o600, img.Config); err != nil {
			return err
		}
	}
	tags := maps.Clone(n.Repositories[repository])
	if tags == nil {
		tags = map[string]digest.Digest{}
	}
	for _, ref := range refs {
		tags[ref] = img.ID
	}
	if len(tags) == 0 || maps.Equal(tags, n.Repositories[repository]) {
		return nil
	}
	n.Repositories[repository] = tags
	return s.putNames(n)
}

// putNames writes repositories.json. The caller has the lists.
func (s *Store) putNames(n names) error {
	data, err := n.encode()
	if err != nil {
		return err
	}
	return s.writeFile(s.path(namesFile), 0o600, data)
}

func (n names) encode() ([]byte, error) { return json.Marshal(n) }

// blobInfo is an entry of v2metadata-by-diffid.
type blobInfo struct {
	Digest           digest.Digest
	SourceRepository string
	HMAC             string
}

// Origin is where a layer came from.
type Origin struct {
	Blob       digest.Digest
	Repository string // in full, with its host
}

// Origins returns where layers of that diffID came from, the last first.
func (r *Reader) Origins(diffID digest.Digest) (origins []Origin) {
	data, err := os.ReadFile(r.blobInfos(diffID))
	var list []blobInfo
	if err != nil || json.Unmarshal(data, &list) != nil {
		return nil // a cache
	}
	for _, b := range slices.Backward(list) {
		if b.Digest.Validate() == nil && b.SourceRepository != "" {
			origins = append(origins, Origin{b.Digest, b.SourceRepository})
		}
	}
	return origins
}

func (r *Reader) blobInfos(diffID digest.Digest) string {
	return r.path("image/overlay2/distribution/v2metadata-by-diffid", diffID.Algorithm().String(), diffID.Encoded())
}

// byDigest returns the path of the note that has a blob's diffID.
func (r *Reader) byDigest(blob digest.Digest) string {
	return r.path("image/overlay2/distribution/diffid-by-digest", blob.Algorithm().String(), blob.Encoded())
}

// maxBlobInfos is how many places Docker remembers for a layer.
const maxBlobInfos = 50

// PutBlob records that a blob, found in the given repository (in full, with its
// host), holds the layer of that diffID. A later docker pull of the blob says
// "Already exists".
func (s *Store) PutBlob(ctx context.Context, blob, diffID digest.Digest, repository string) error {
	unlock, err := s.lockLists(ctx, nil)
	if err != nil {
		return err
	}
	defer unlock()
	return s.putBlobs(diffID, blobInfo{Digest: blob, SourceRepository: repository})
}

// putBlobs is PutBlob for several blobs, and for a caller that has the lists.
func (s *Store) putBlobs(diffID digest.Digest, blobs ...blobInfo) error {
	infos := s.blobInfos(diffID)
	var list []blobInfo
	before, err := os.ReadFile(infos)
	if err == nil {
		_ = json.Unmarshal(before, &list) // a cache: what cannot be read is written anew
	}
	for _, info := range blobs {
		list = slices.DeleteFunc(list, func(b blobInfo) bool {
			return b.Digest == info.Digest && b.SourceRepository == info.SourceRepository
		})
		list = append(list, info)
	}
	list = list[max(0, len(list)-maxBlobInfos):]
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if bytes.Equal(data, before) {
		return nil // and the other files were written with this one
	}
	for _, info := range blobs {
		name := s.byDigest(info.Digest)
		if have, err := os.ReadFile(name); err == nil && string(have) == diffID.String() {
			continue
		}
		if err := mkdir(filepath.Dir(name), 0o755); err != nil { // another algorithm than sha256
			return err
		}
		if err := s.writeFile(name, 0o644, []byte(diffID)); err != nil {
			return err
		}
	}
	if err := mkdir(filepath.Dir(infos), 0o755); err != nil {
		return err
	}
	return s.writeFile(infos, 0o644, data)
}
