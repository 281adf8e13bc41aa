package daemon

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Containerd reports whether the Engine keeps its images in containerd's store. The ID
// of an image is then the digest of its manifest, or of its index, and not its config's.
func (e *Engine) Containerd() bool {
	return slices.Contains(e.info.DriverStatus, [2]string{"driver-type", "io.containerd.snapshotter.v1"})
}

// TellsManifests reports whether [Engine.Stored] can be asked: the Engine keeps images in
// containerd's store, and speaks the API of Docker 28 (1.48) or later.
func (e *Engine) TellsManifests() bool {
	major, minor, _ := strings.Cut(e.api, ".")
	m, err := strconv.Atoi(minor)
	return e.Containerd() && major == "1" && err == nil && m >= 48
}

// Stored is what an Engine with containerd's store has of an image.
type Stored struct {
	Target   ocispec.Descriptor // of its manifest, or of its index
	Variants []Variant          // its manifest, or those of its index
	Touched  time.Time          // when it got its latest name
}

// Variant is a manifest in containerd's store.
type Variant struct {
	Descriptor ocispec.Descriptor // as the index has it
	Platform   ocispec.Platform   // of the config, if the index has none
	Complete   bool               // its config and the blobs of all layers are in the content store
	Unpacked   bool               // its layers are unpacked, and take some room
}

// Usable reports whether containers can start, and the image can be saved and pushed.
func (v Variant) Usable() bool { return v.Complete && v.Unpacked }

// Stored returns what the Engine has of an image, which is named by its ID or by any of
// its names. It returns nil if there is no such image. [Engine.TellsManifests] must hold.
func (e *Engine) Stored(ctx context.Context, name string) (*Stored, error) {
	img, err := e.inspect(ctx, name)
	if img == nil {
		return nil, err
	}
	return storedOf(img), nil
}

func storedOf(img *image.InspectResponse) *Stored {
	s := &Stored{Touched: img.Metadata.LastTagTime}
	if img.Descriptor != nil {
		s.Target = *img.Descriptor
	}
	for _, m := range img.Manifests {
		v := Variant{Descriptor: m.Descriptor, Complete: m.Available}
		if m.ImageData != nil {
			v.Platform, v.Unpacked = m.ImageData.Platform, m.ImageData.Size.Unpacked > 0
		}
		s.Variants = append(s.Variants, v)
	}
	return s
}

// Variant returns the manifest with the digest, the zero Variant if the image has none.
func (s *Stored) Variant(d digest.Digest) Variant {
	for _, v := range s.Variants {
		if v.Descriptor.Digest == d {
			return v
		}
	}
	return Variant{}
}

// TryContainer proves that a container can be created of an image, by its ID: it creates
// one, which is not started, and removes it. The platform is that of the image, or nil for
// the Engine's. An Engine with containerd's store unpacks the image for that if it has not:
// TryContainer is for images with plain layers alone, since the Engine may run another
// program to decompress others.
func (e *Engine) TryContainer(ctx context.Context, id digest.Digest, platform *ocispec.Platform) error {
	asking, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	made, err := e.cli.ContainerCreate(asking, client.ContainerCreateOptions{
		Config:     &container.Config{Image: id.String(), Cmd: []string{"/none"}},
		HostConfig: &container.HostConfig{NetworkMode: "none"},
		Platform:   platform,
	})
	if err != nil {
		return e.explain(err, "create a container of image %s", id)
	}
	removing, cancel := cleanup(ctx)
	defer cancel()
	_, err = e.cli.ContainerRemove(removing, made.ID, client.ContainerRemoveOptions{})
	return e.explain(err, "remove container %.12s", made.ID)
}
