// Package fakecontainerd serves the part of containerd's API that tests need, from memory.
package fakecontainerd

import (
	"context"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	introspectionapi "github.com/containerd/containerd/api/services/introspection/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	namespacesapi "github.com/containerd/containerd/api/services/namespaces/v1"
	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Server is a containerd. Its fields may be set before the first call.
type Server struct {
	Address string
	Plugins []*introspectionapi.Plugin
	// Silent are the methods, such as "Version", that never answer.
	Silent map[string]bool

	mu     sync.Mutex
	blobs  map[string]*blob
	parts  map[string][]byte // of blobs that are being written, by ref
	locked map[string]bool   // refs that have a writer
	images map[string]*imagesapi.Image
	leases map[string]*leasesapi.Lease
	leased []string // resources of leases
	heads  []string // namespace and lease of each call
}

type blob struct {
	data   []byte
	labels map[string]string
}

// Start starts a server at a new socket in dir, which runs until the end of the test.
func Start(t testing.TB, dir string) *Server {
	t.Helper()
	s := &Server{
		Address: filepath.Join(dir, "s"),
		blobs:   make(map[string]*blob), parts: make(map[string][]byte), locked: make(map[string]bool),
		images: make(map[string]*imagesapi.Image), leases: make(map[string]*leasesapi.Lease),
	}
	l, err := net.Listen("unix", s.Address)
	if err != nil {
		t.Fatal(err)
	}
	const size = 16 << 20
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(size), grpc.UnaryInterceptor(s.unary))
	versionapi.RegisterVersionServer(srv, versioning{s: s})
	introspectionapi.RegisterIntrospectionServer(srv, introspecting{s: s})
	namespacesapi.RegisterNamespacesServer(srv, namespacing{})
	leasesapi.RegisterLeasesServer(srv, leasing{s: s})
	contentapi.RegisterContentServer(srv, storing{s: s})
	imagesapi.RegisterImagesServer(srv, naming{s: s})
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return s
}

// unary notes the headers of a call, and does not answer a silent method.
func (s *Server) unary(ctx context.Context, q any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if s.Silent[filepath.Base(info.FullMethod)] {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	head, _ := metadata.FromIncomingContext(ctx)
	one := func(key string) string {
		if v := head.Get(key); len(v) > 0 {
			return v[0]
		}
		return ""
	}
	s.mu.Lock()
	s.heads = append(s.heads, one("containerd-namespace")+"/"+one("containerd-lease"))
	s.mu.Unlock()
	return handle(ctx, q)
}

// Last returns the namespace and the lease of the last call, with a slash between them.
func (s *Server) Last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heads[len(s.heads)-1]
}

// Leased returns the resources that were added to leases, each as lease, kind and ID.
func (s *Server) Leased() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.leased...)
}

func notFound(what string) error {
	return status.Errorf(codes.NotFound, "%s: not found", what)
}

type versioning struct {
	versionapi.UnimplementedVersionServer
	s *Server
}

func (versioning) Version(context.Context, *emptypb.Empty) (*versionapi.VersionResponse, error) {
	return &versionapi.VersionResponse{Version: "v2.4.2"}, nil
}

type introspecting struct {
	introspectionapi.UnimplementedIntrospectionServer
	s *Server
}

func (i introspecting) Plugins(context.Context, *introspectionapi.PluginsRequest) (*introspectionapi.PluginsResponse, error) {
	return &introspectionapi.PluginsResponse{Plugins: i.s.Plugins}, nil
}

type namespacing struct {
	namespacesapi.UnimplementedNamespacesServer
}

func (namespacing) Get(_ context.Context, q *namespacesapi.GetNamespaceRequest) (*namespacesapi.GetNamespaceResponse, error) {
	if q.Name != "labelled" {
		return nil, notFound(q.Name)
	}
	return &namespacesapi.GetNamespaceResponse{Namespace: &namespacesapi.Namespace{
		Name: q.Name, Labels: map[string]string{"containerd.io/defaults/snapshotter": "native"},
	}}, nil
}

type leasing struct {
	leasesapi.UnimplementedLeasesServer
	s *Server
}

func (l leasing) Create(_ context.Context, q *leasesapi.CreateRequest) (*leasesapi.CreateResponse, error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	lease := &leasesapi.Lease{ID: q.ID, Labels: q.Labels}
	l.s.leases[q.ID] = lease
	return &leasesapi.CreateResponse{Lease: lease}, nil
}

func (l leasing) Delete(_ context.Context, q *leasesapi.DeleteRequest) (*emptypb.Empty, error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.leases[q.ID] == nil {
		return nil, notFound(q.ID)
	}
	delete(l.s.leases, q.ID)
	return &emptypb.Empty{}, nil
}

func (l leasing) AddResource(_ context.Context, q *leasesapi.AddResourceRequest) (*emptypb.Empty, error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.leased = append(l.s.leased, q.ID+" "+q.Resource.Type+" "+q.Resource.ID)
	return &emptypb.Empty{}, nil
}

type naming struct {
	imagesapi.UnimplementedImagesServer
	s *Server
}

func (n naming) Get(_ context.Context, q *imagesapi.GetImageRequest) (*imagesapi.GetImageResponse, error) {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	if n.s.images[q.Name] == nil {
		return nil, notFound(q.Name)
	}
	return &imagesapi.GetImageResponse{Image: n.s.images[q.Name]}, nil
}

func (n naming) List(context.Context, *imagesapi.ListImagesRequest) (*imagesapi.ListImagesResponse, error) {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	return &imagesapi.ListImagesResponse{Images: slices.Collect(maps.Values(n.s.images))}, nil
}

func (n naming) Create(_ context.Context, q *imagesapi.CreateImageRequest) (*imagesapi.CreateImageResponse, error) {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	n.s.images[q.Image.Name] = q.Image
	return &imagesapi.CreateImageResponse{Image: q.Image}, nil
}

func (n naming) Update(_ context.Context, q *imagesapi.UpdateImageRequest) (*imagesapi.UpdateImageResponse, error) {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	have := n.s.images[q.Image.Name]
	if have == nil {
		return nil, notFound(q.Image.Name)
	}
	for _, path := range q.UpdateMask.Paths {
		if path == "target" {
			have.Target = q.Image.Target
			continue
		}
		name := path[len("labels."):]
		if have.Labels == nil {
			have.Labels = make(map[string]string)
		}
		have.Labels[name] = q.Image.Labels[name]
	}
	return &imagesapi.UpdateImageResponse{Image: have}, nil
}

// Image returns an image, nil if there is none of that name.
func (s *Server) Image(name string) *imagesapi.Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.images[name]
}
