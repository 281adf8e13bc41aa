//go:build e2e

package destinations

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fastpull/fastpull/e2e/kit"
)

// theirs are the programs of others.
func theirs(t *testing.T) []taker {
	p := newPodman(t)
	old, today, c := kit.StartDockerd(t, kit.DockerdOptions{}), kit.StartDockerd(t, kit.DockerdOptions{Release: kit.Today}), kit.StartContainerd(t, kit.ContainerdOptions{Release: kit.Today})
	own := kit.Containerd{Root: today.Root, Namespace: "moby", CRI: kit.CRI{Sock: filepath.Join(filepath.Dir(today.Sock), "exec/containerd/containerd.sock")}}
	return []taker{
		{"Docker 20.10", func(t *testing.T, ref string) (map[string]kit.Node, error) {
			if r := old.Docker(t, "pull", ref); r.Code != 0 {
				return nil, errors.New(r.Stderr)
			}
			return inDocker(t, old, ref), nil
		}},
		{"Docker 29", func(t *testing.T, ref string) (map[string]kit.Node, error) {
			if r := today.Docker(t, "pull", ref); r.Code != 0 {
				return nil, errors.New(r.Stderr)
			}
			var list []struct{ RootFS struct{ Layers []string } }
			out := today.Must(t, "image", "inspect", ref)
			if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
				t.Fatalf("docker image inspect: %v\n%s", err, out)
			}
			files := merged(t, own.Layers(t, top(t, list[0].RootFS.Layers)))
			today.Must(t, "rmi", "-f", ref)
			if left := own.Lines(t, "snapshots", "ls"); len(left) > 0 {
				t.Fatalf("Docker has snapshots without an image: %q", left)
			}
			return files, nil
		}},
		{"containerd 2", func(t *testing.T, ref string) (map[string]kit.Node, error) {
			if _, err := attempt(c.Command("images", "pull", "--plain-http", "--local", "--skip-metadata", ref)); err != nil {
				return nil, err
			}
			return inContainerd(t, c, ref), nil
		}},
		{"Podman 4", func(t *testing.T, ref string) (map[string]kit.Node, error) {
			if _, err := attempt(p.command(t, "pull", "--tls-verify=false", ref)); err != nil {
				return nil, err
			}
			return p.files(t, ref), nil
		}},
	}
}

// top returns the chainID of layers.
func top(t *testing.T, diffIDs []string) string {
	t.Helper()
	var im kit.Image
	for _, d := range diffIDs {
		h, err := v1.NewHash(d)
		if err != nil {
			t.Fatal(err)
		}
		im.Layers = append(im.Layers, kit.Layer{DiffID: h})
	}
	return im.ChainID()
}
