package containerdapi

import (
	"context"
	"crypto/rand"
	"time"

	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"github.com/containerd/errdefs"
)

// CreateLease makes a lease with a name of its own, and returns the name. Containerd
// deletes the lease after the given time if nothing else does.
func (c *Client) CreateLease(ctx context.Context, prefix string, expires time.Duration) (string, error) {
	answer, err := call(ctx, c, leasesapi.NewLeasesClient(c.conn).Create, &leasesapi.CreateRequest{
		ID:     prefix + rand.Text(),
		Labels: map[string]string{"containerd.io/gc.expire": time.Now().Add(expires).UTC().Format(time.RFC3339)},
	})
	if err != nil {
		return "", err
	}
	return answer.Lease.ID, nil
}

// DeleteLease deletes a lease. What it alone has kept goes with the next garbage
// collection. With sync that has ended when DeleteLease returns.
func (c *Client) DeleteLease(ctx context.Context, id string, sync bool) error {
	_, err := call(ctx, c, leasesapi.NewLeasesClient(c.conn).Delete, &leasesapi.DeleteRequest{ID: id, Sync: sync})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// addResource adds a resource to the client's lease. The resource need not exist.
func (c *Client) addResource(ctx context.Context, kind, id string) error {
	if c.lease == "" {
		return nil
	}
	_, err := call(ctx, c, leasesapi.NewLeasesClient(c.conn).AddResource, &leasesapi.AddResourceRequest{
		ID: c.lease, Resource: &leasesapi.Resource{ID: id, Type: kind},
	})
	return err
}
