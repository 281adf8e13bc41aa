//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
)

// kubelet asks the image service of a kubelet's containerd for its images, and returns the
// answer as it came: names and IDs are readable in it.
func (c *containerd) kubelet(t *testing.T) string {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+c.sock, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answer := new(emptypb.Empty) // which keeps the fields that it does not know
	if err := conn.Invoke(ctx, "/runtime.v1.ImageService/ListImages", &emptypb.Empty{}, answer); err != nil {
		t.Fatal(err)
	}
	return string(answer.ProtoReflect().GetUnknown())
}

// TestContainerdCRI: where containerd serves a kubelet, an image goes to that, which knows
// it by its tag, its digest and its ID.
func TestContainerdCRI(t *testing.T) {
	t.Parallel()
	s := newShipment(t)
	eachContainerd(t, func(t *testing.T, r release) {
		broken := plantUnpigz(t, "unpigz", "igzip")
		c := startContainerd(t, containerdOptions{release: r, pathFirst: broken.dir, cri: true})
		u := newUser(t, "CONTAINERD_ADDRESS="+c.sock)
		u.fastpull(t, append([]string{"--containerd"}, s.refs...)...).expect(t, 0, "namespace k8s.io")
		for i, ref := range s.refs {
			repository := ref[:strings.LastIndex(ref, ":")]
			for _, name := range []string{ref, repository + "@" + s.images[i].digest.String(), s.images[i].id.String()} {
				if !eventually(10*time.Second, func() bool { return strings.Contains(c.kubelet(t), name) }) {
					t.Errorf("the kubelet does not see %s", name)
				}
			}
		}
		for _, im := range u.fastpull(t, append([]string{"--containerd", "--json"}, s.refs...)...).expect(t, 0).summary(t).Images {
			if im.Status != "exists" || im.BytesFetched > 0 {
				t.Errorf("%+v", im)
			}
		}
		if pids := broken.starts(t); len(pids) > 0 {
			t.Errorf("containerd has run a decompressor: %v", pids)
		}
	})
}
