package containerdapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/fastpull/fastpull/fault"
)

const (
	defaultTimeout      = 5 * time.Second
	defaultStallTimeout = 10 * time.Minute

	// requestTimeout bounds a call that has no deadline of its own. Containerd commits its
	// database to the disk before it answers, and a garbage collection holds calls up.
	requestTimeout = 2 * time.Minute

	// maxMessage is the size of a message that containerd sends and takes.
	maxMessage = 16 << 20
)

// ErrUnavailable is in the chain of the error of [Dial] when no containerd answers: there
// is no socket, the connection is refused, or no answer comes in time.
var ErrUnavailable = errors.New("no containerd answers")

// Options says which containerd to speak with, and for how long.
type Options struct {
	// Address is the path of the socket, with or without unix:// before it. Required.
	Address string
	// Timeout is how long Dial waits for the first answer; 0 means 5 seconds.
	Timeout time.Duration
	// StallTimeout is how long a write or a long call waits for a containerd that does
	// nothing; 0 means 10 minutes.
	StallTimeout time.Duration
}

// Client is a connection to containerd, with the namespace and the lease that its calls
// name. A Client is safe for concurrent use.
type Client struct {
	conn      *grpc.ClientConn
	address   string
	version   string
	stall     time.Duration
	namespace string
	lease     string
}

// Dial connects to containerd and asks for its version. The error wraps [ErrUnavailable]
// if none answers. It is of kind [fault.Denied] if the socket may not be used.
func Dial(ctx context.Context, o Options) (*Client, error) {
	address := strings.TrimPrefix(o.Address, "unix://")
	timeout := cmp.Or(o.Timeout, defaultTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", address)
	}
	probe, err := dial(ctx, "") // gRPC does not tell what the system said
	if err != nil {
		return nil, dialError(ctx, address, err)
	}
	probe.Close()
	conn, err := grpc.NewClient("passthrough:///containerd",
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithUserAgent("fastpull"),
	)
	if err != nil {
		return nil, fault.New(fault.Usage, "address of containerd %q: %w", o.Address, err)
	}
	c := &Client{conn: conn, address: address, stall: cmp.Or(o.StallTimeout, defaultStallTimeout)}
	answer, err := call(ctx, c, versionapi.NewVersionClient(conn).Version, &emptypb.Empty{})
	if err != nil {
		conn.Close()
		return nil, dialError(ctx, address, err)
	}
	c.version = strings.TrimPrefix(answer.Version, "v")
	return c, nil
}

// dialError explains to the user why a connection failed.
func dialError(ctx context.Context, address string, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("connect to containerd at %s: %w", address, err)
	case errors.Is(err, fs.ErrPermission):
		return fault.WithHint(fault.New(fault.Denied, "connect to containerd at %s: %w", address, err), "run fastpull as root")
	}
	return fault.WithHint(fmt.Errorf("%w at %s: %w", ErrUnavailable, address, err),
		"check that containerd runs (ctr version), or name its socket with --containerd=ADDRESS")
}

// Close closes the connection, for all clients that were made of this one.
func (c *Client) Close() error { return c.conn.Close() }

// Address returns the path of the socket.
func (c *Client) Address() string { return c.address }

// Version returns the version of containerd, such as "1.6.20".
func (c *Client) Version() string { return c.version }

// Namespace returns the namespace of the client's calls.
func (c *Client) Namespace() string { return c.namespace }

// String describes the containerd and the namespace for people.
func (c *Client) String() string {
	return fmt.Sprintf("containerd %s at %s, namespace %s", c.version, c.address, c.namespace)
}

// In returns a client for a namespace.
func (c *Client) In(namespace string) *Client {
	in := *c
	in.namespace = namespace
	return &in
}

// Leased returns a client whose calls add what they make to a lease.
func (c *Client) Leased(lease string) *Client {
	leased := *c
	leased.lease = lease
	return &leased
}

// outgoing adds the namespace and the lease to the headers of a call.
func (c *Client) outgoing(ctx context.Context) context.Context {
	if c.namespace != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", c.namespace)
	}
	if c.lease != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "containerd-lease", c.lease)
	}
	return ctx
}

// call makes a call that has one answer.
func call[Q, A any](ctx context.Context, c *Client, method func(context.Context, Q, ...grpc.CallOption) (A, error), question Q) (A, error) {
	return callFor(ctx, c, requestTimeout, method, question)
}

// callFor makes a call that may take as long as limit.
func callFor[Q, A any](ctx context.Context, c *Client, limit time.Duration, method func(context.Context, Q, ...grpc.CallOption) (A, error), question Q) (A, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("containerd does not answer within %v", limit))
	defer cancel()
	answer, err := method(c.outgoing(ctx), question)
	return answer, native(ctx, err)
}

// native returns the error of a call as package errdefs knows it, or why ctx ended.
func native(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errgrpc.ToNative(err)
}
