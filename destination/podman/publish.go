//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/source"
)

// publish adds the image, whose layers are there, and gives it its names.
func (t *tx) publish(ctx context.Context) error {
	_, err := locked(ctx, t.s, func() (struct{}, error) { return struct{}{}, t.add() })
	if errors.Is(err, destination.ErrGone) {
		return err
	}
	if err != nil {
		return fmt.Errorf("add %s to Podman's store: %w", t.img.Ref, err)
	}
	return nil
}

func (t *tx) add() error {
	id := t.img.ID.Encoded()
	if t.img.Content == nil {
		if !t.s.knows(t.img.Image, t.img.Found) {
			return destination.ErrGone
		}
	} else if err := t.create(id); err != nil {
		return err
	}
	if names := t.names(); len(names) > 0 {
		// It takes the names from other images.
		return t.s.s.AddNames(id, names)
	}
	return nil
}

// create adds the record of the image. If there is one, it gets the documents that it lacks.
func (t *tx) create(id string) error {
	top := ""
	if n := len(t.layers); n > 0 {
		top = t.layers[n-1].id
	}
	leaf, data := t.img.Leaf.Document.Digest, documents(t.img)
	metadata, err := withoutSignatures("", leaf)
	if err != nil {
		return err
	}
	_, err = t.s.s.CreateImage(id, nil, top, "", &storage.ImageOptions{
		Digest: leaf, CreationDate: t.img.Created, Metadata: metadata, BigData: data,
	})
	if !errors.Is(err, storage.ErrDuplicateID) {
		return err
	}
	rec, err := t.s.s.Image(id)
	if err != nil {
		return err
	}
	for _, d := range data {
		if has, ok := rec.BigDataDigests[d.Key]; ok && (has == d.Digest || d.Key == signatureKey(leaf)) {
			continue // signatures that it has are kept
		}
		if err := t.s.s.SetImageBigData(id, d.Key, d.Data, func([]byte) (digest.Digest, error) { return d.Digest, nil }); err != nil {
			return err
		}
	}
	if metadata, err = withoutSignatures(rec.Metadata, leaf); err != nil || metadata == rec.Metadata {
		return err
	}
	return t.s.s.SetMetadata(id, metadata)
}

// withoutSignatures returns what Podman notes of an image whose manifest has no signatures:
// the metadata that it has, with the manifest.
func withoutSignatures(metadata string, manifest digest.Digest) (string, error) {
	var m struct {
		Sizes []int                   `json:"signature-sizes,omitempty"`
		Of    map[digest.Digest][]int `json:"signatures-sizes,omitempty"`
	}
	if metadata != "" {
		if err := json.Unmarshal([]byte(metadata), &m); err != nil {
			return "", fmt.Errorf("read the metadata: %w", err)
		}
	}
	if _, ok := m.Of[manifest]; ok {
		return metadata, nil
	}
	if m.Of == nil {
		m.Of = make(map[digest.Digest][]int)
	}
	m.Of[manifest] = []int{}
	data, err := json.Marshal(m)
	return string(data), err
}

// documents returns the documents of an image by the keys that Podman gives them.
func documents(img *destination.Image) []storage.ImageBigDataOption {
	leaf := img.Leaf.Document
	list := []storage.ImageBigDataOption{{Key: img.ID.String(), Data: img.Config, Digest: img.ID}}
	manifest := func(doc *image.Document, key string) {
		list = append(list, storage.ImageBigDataOption{Key: key, Data: doc.Bytes, Digest: doc.Digest})
	}
	if img.Top != nil && img.Top.Digest != leaf.Digest {
		manifest(img.Top, keyOf(img.Top.Digest))
	}
	manifest(leaf, keyOf(leaf.Digest))
	manifest(leaf, storage.ImageDigestBigDataKey)
	return append(list, storage.ImageBigDataOption{Key: signatureKey(leaf.Digest), Data: []byte{}, Digest: digest.FromBytes(nil)})
}

// signatureKey is the key of the signatures of a manifest. Podman keeps none for images that
// have none, but notes so.
func signatureKey(manifest digest.Digest) string { return "signature-" + manifest.Encoded() }

func keyOf(manifest digest.Digest) string {
	return storage.ImageDigestManifestBigDataNamePrefix + "-" + manifest.String()
}

// names returns the names of the image, as Podman writes them.
func (t *tx) names() []string {
	ref := t.img.Ref
	switch {
	case ref.Familiar() == source.Unnamed:
		return nil
	case ref.FullTag() != "" && ref.Digest() == "":
		return []string{ref.FullTag()}
	}
	return []string{ref.Full() + "@" + t.img.Found.String()}
}
