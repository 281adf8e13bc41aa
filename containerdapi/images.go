package containerdapi

import (
	"context"
	"maps"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// Images returns the images of the namespace: the digest of each one's manifest or index, by
// its name.
func (c *Client) Images(ctx context.Context) (map[string]digest.Digest, error) {
	answer, err := call(ctx, c, imagesapi.NewImagesClient(c.conn).List, &imagesapi.ListImagesRequest{})
	if err != nil {
		return nil, err
	}
	images := make(map[string]digest.Digest)
	for _, img := range answer.Images {
		images[img.Name] = digest.Digest(img.Target.GetDigest())
	}
	return images, nil
}

// SetImage gives an image a name, whatever the name led to before. Labels of the name
// that are not among labels stay.
func (c *Client) SetImage(ctx context.Context, name string, target ocispec.Descriptor, labels map[string]string) error {
	api := imagesapi.NewImagesClient(c.conn)
	img := &imagesapi.Image{Name: name, Labels: labels, Target: &types.Descriptor{
		MediaType: target.MediaType, Digest: target.Digest.String(), Size: target.Size,
	}}
	have, err := call(ctx, c, api.Get, &imagesapi.GetImageRequest{Name: name})
	if err == nil && have.Image.Target.Digest == img.Target.Digest && contains(have.Image.Labels, labels) {
		return nil
	}
	if err == nil || !errdefs.IsNotFound(err) {
		return c.updateImage(ctx, img, err)
	}
	_, err = call(ctx, c, api.Create, &imagesapi.CreateImageRequest{Image: img})
	if errdefs.IsAlreadyExists(err) {
		return c.updateImage(ctx, img, nil)
	}
	return err
}

// updateImage has an image's name lead to another target, unless err is set.
func (c *Client) updateImage(ctx context.Context, img *imagesapi.Image, err error) error {
	if err != nil {
		return err
	}
	mask := &fieldmaskpb.FieldMask{Paths: []string{"target"}}
	for name := range img.Labels {
		mask.Paths = append(mask.Paths, "labels."+name)
	}
	_, err = call(ctx, c, imagesapi.NewImagesClient(c.conn).Update, &imagesapi.UpdateImageRequest{Image: img, UpdateMask: mask})
	return err
}

// contains reports whether all labels of some are in all.
func contains(all, some map[string]string) bool {
	merged := maps.Clone(all)
	if merged == nil {
		merged = make(map[string]string)
	}
	maps.Copy(merged, some)
	return maps.Equal(all, merged)
}
