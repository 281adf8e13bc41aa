package fakecontainerd

import (
	"context"
	"io"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// SetPart sets the bytes that were written under a ref, and not committed.
func (s *Server) SetPart(ref string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[ref] = data
}

// Part returns the bytes that were written under a ref, and not committed.
func (s *Server) Part(ref string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parts[ref]
}

type storing struct {
	contentapi.UnimplementedContentServer
	s *Server
}

func (c storing) Info(_ context.Context, q *contentapi.InfoRequest) (*contentapi.InfoResponse, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	b := c.s.blobs[q.Digest]
	if b == nil {
		return nil, notFound(q.Digest)
	}
	return &contentapi.InfoResponse{Info: &contentapi.Info{Digest: q.Digest, Size: int64(len(b.data)), Labels: b.labels}}, nil
}

func (c storing) Update(_ context.Context, q *contentapi.UpdateRequest) (*contentapi.UpdateResponse, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	b := c.s.blobs[q.Info.Digest]
	if b == nil {
		return nil, notFound(q.Info.Digest)
	}
	for _, path := range q.UpdateMask.Paths {
		name := path[len("labels."):]
		b.labels[name] = q.Info.Labels[name]
	}
	return &contentapi.UpdateResponse{Info: q.Info}, nil
}

func (c storing) Abort(_ context.Context, q *contentapi.AbortRequest) (*emptypb.Empty, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if _, ok := c.s.parts[q.Ref]; !ok {
		return nil, notFound(q.Ref)
	}
	delete(c.s.parts, q.Ref)
	return &emptypb.Empty{}, nil
}

func (c storing) Read(q *contentapi.ReadContentRequest, stream contentapi.Content_ReadServer) error {
	if c.s.Silent["Read"] {
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	c.s.mu.Lock()
	b := c.s.blobs[q.Digest]
	c.s.mu.Unlock()
	if b == nil {
		return notFound(q.Digest)
	}
	for at := 0; at < len(b.data); {
		end := min(at+1000, len(b.data))
		if err := stream.Send(&contentapi.ReadContentResponse{Offset: int64(at), Data: b.data[at:end]}); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// Write has one writer for a ref, as containerd has. A commit verifies the digest.
func (c storing) Write(stream contentapi.Content_WriteServer) error {
	var ref, expected string
	defer func() {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		delete(c.s.locked, ref)
	}()
	for {
		q, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if ref == "" {
			if expected = q.Expected; !c.begin(q.Ref) {
				return status.Errorf(codes.Unavailable, "ref %s locked", q.Ref)
			}
			ref = q.Ref
		}
		if q.Action == contentapi.WriteAction_WRITE && c.s.Silent["Write"] {
			<-stream.Context().Done()
			return stream.Context().Err()
		}
		answer, err := c.step(ref, expected, q)
		if err != nil {
			return err
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// begin locks a ref for a writer. It returns false if another writer has it.
func (c storing) begin(ref string) bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.locked[ref] {
		return false
	}
	c.s.locked[ref] = true
	return true
}

// step does what one message of a writer asks.
func (c storing) step(ref, expected string, q *contentapi.WriteContentRequest) (*contentapi.WriteContentResponse, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.blobs[expected] != nil {
		return nil, status.Errorf(codes.AlreadyExists, "content %s: already exists", expected)
	}
	switch q.Action {
	case contentapi.WriteAction_WRITE:
		have := c.s.parts[ref]
		if q.Offset > int64(len(have)) {
			return nil, status.Errorf(codes.OutOfRange, "offset %d of %d", q.Offset, len(have))
		}
		c.s.parts[ref] = append(have[:q.Offset:q.Offset], q.Data...)
	case contentapi.WriteAction_COMMIT:
		data := c.s.parts[ref]
		if digest.FromBytes(data).String() != expected {
			return nil, status.Errorf(codes.FailedPrecondition, "unexpected commit digest")
		}
		labels := make(map[string]string)
		for name, value := range q.Labels {
			labels[name] = value
		}
		c.s.blobs[expected] = &blob{data, labels}
		delete(c.s.parts, ref)
	}
	return &contentapi.WriteContentResponse{Action: q.Action, Offset: int64(len(c.s.parts[ref]))}, nil
}
