//go:build e2e

package containerd

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/fastpull/fastpull/e2e/kit"
)

// kubelet asks the image service of a kubelet's containerd for its images, and returns the
// answer as it came: names and IDs are readable in it.
func kubelet(t *testing.T, c *kit.Containerd) string {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+c.Sock, grpc.WithTransportCredentials(insecure.NewCredentials()))
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
	s := kit.NewShipment(t)
	eachContainerd(t, func(t *testing.T, r kit.Release) {
		broken := kit.PlantUnpigz(t, "unpigz", "igzip")
		c := kit.StartContainerd(t, kit.ContainerdOptions{Release: r, PathFirst: broken.Dir, CRI: true})
		u := kit.NewUser(t, "CONTAINERD_ADDRESS="+c.Sock)
		u.Fastpull(t, append([]string{"--containerd"}, s.Refs...)...).Expect(t, 0, "namespace k8s.io")
		for i, ref := range s.Refs {
			repository := ref[:strings.LastIndex(ref, ":")]
			for _, name := range []string{ref, repository + "@" + s.Images[i].Digest.String(), s.Images[i].ID.String()} {
				if !kit.Eventually(10*time.Second, func() bool { return strings.Contains(kubelet(t, c), name) }) {
					t.Errorf("the kubelet does not see %s", name)
				}
			}
		}
		for _, im := range u.Fastpull(t, append([]string{"--containerd", "--json"}, s.Refs...)...).Expect(t, 0).Summary(t).Images {
			if im.Status != "exists" || im.BytesFetched > 0 {
				t.Errorf("%+v", im)
			}
		}
		if pids := broken.Starts(t); len(pids) > 0 {
			t.Errorf("containerd has run a decompressor: %v", pids)
		}
	})
}
