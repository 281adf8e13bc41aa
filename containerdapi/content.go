package containerdapi

import (
	"context"
	"fmt"
	"io"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/fastpull/fastpull/fault"
)

// Blob describes a blob of containerd.
type Blob struct {
	Size   int64
	Labels map[string]string
}

// LeaseBlob adds a blob to the client's lease: the garbage collection leaves it.
func (c *Client) LeaseBlob(ctx context.Context, d digest.Digest) error {
	return c.addResource(ctx, "content", d.String())
}

// StatBlob describes a blob. The error for a blob that does not exist is a NotFound.
func (c *Client) StatBlob(ctx context.Context, d digest.Digest) (Blob, error) {
	answer, err := call(ctx, c, c.content().Info, &contentapi.InfoRequest{Digest: d.String()})
	if err != nil {
		return Blob{}, err
	}
	return Blob{answer.Info.Size, answer.Info.Labels}, nil
}

// LabelBlob sets labels of a blob. Its other labels stay.
func (c *Client) LabelBlob(ctx context.Context, d digest.Digest, labels map[string]string) error {
	mask := new(fieldmaskpb.FieldMask)
	for name := range labels {
		mask.Paths = append(mask.Paths, "labels."+name)
	}
	_, err := call(ctx, c, c.content().Update, &contentapi.UpdateRequest{Info: &contentapi.Info{Digest: d.String(), Labels: labels}, UpdateMask: mask})
	return err
}

// ReadBlob returns the bytes of a small blob. They are not verified.
func (c *Client) ReadBlob(ctx context.Context, d digest.Digest, limit int64) ([]byte, error) {
	info, err := c.StatBlob(ctx, d)
	if err != nil {
		return nil, err
	}
	if info.Size > limit {
		return nil, fault.New(fault.Corrupt, "%s has %d bytes, more than %d", d, info.Size, limit)
	}
	r, err := c.OpenBlob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, limit))
}

// reader reads a blob.
type reader struct {
	steps
	stream contentapi.Content_ReadClient
	rest   []byte
}

// OpenBlob opens a blob. Its bytes are not verified.
func (c *Client) OpenBlob(ctx context.Context, d digest.Digest) (io.ReadCloser, error) {
	r := &reader{steps: c.steps(ctx)}
	var err error
	if r.stream, err = c.content().Read(r.ctx, &contentapi.ReadContentRequest{Digest: d.String()}); err != nil {
		err = native(r.ctx, err)
		r.end()
		return nil, err
	}
	return r, nil
}

// Read implements [io.Reader].
func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		var answer *contentapi.ReadContentResponse
		err := r.step(func() (err error) {
			answer, err = r.stream.Recv()
			return err
		})
		if err == io.EOF {
			return 0, io.EOF
		}
		if err != nil {
			return 0, fmt.Errorf("read it from containerd: %w", err)
		}
		r.rest = answer.Data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close implements [io.Closer].
func (r *reader) Close() error {
	r.end()
	return nil
}

func (c *Client) content() contentapi.ContentClient { return contentapi.NewContentClient(c.conn) }
