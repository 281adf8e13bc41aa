//go:build e2e

package registry

import (
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fastpull/fastpull/e2e/engines"
	"github.com/fastpull/fastpull/e2e/kit"
)

// implementation is a registry of another project.
type implementation struct {
	name, version string
	password      bool // whether it asks for one
	referrers     bool // whether it has the referrers API
	start         func(t *testing.T) (addr string)
}

// implementations returns the registries that docs/registries.md lists, with the versions
// that are pinned.
func implementations(t *testing.T) []implementation {
	t.Helper()
	pinned := func(folder, module string) string {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", module)
		cmd.Dir = folder
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list -m %s: %v", module, err)
		}
		return strings.TrimSpace(string(out))
	}
	version := strings.Fields(kit.Run(t, "docker-registry", "--version"))
	list := []implementation{
		{"docker-registry", strings.Join(strings.SplitN(version[len(version)-1], ".", 3)[:2], "."), true, false, func(t *testing.T) string {
			return kit.StartRegistry(t, kit.RegistryOptions{Password: true}).Addr
		}},
		{"go-containerregistry", pinned("../..", "github.com/google/go-containerregistry"), false, true, func(t *testing.T) string {
			s := httptest.NewServer(ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0))))
			t.Cleanup(s.Close)
			return s.Listener.Addr().String()
		}},
		{"ociregistry", pinned("../engines/ocimem", "cuelabs.dev/go/oci/ociregistry"), false, true, func(t *testing.T) string {
			program, err := engines.Ocimem(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			addr := kit.FreePort(t)
			kit.StartServer(t, exec.Command(program, addr), 2*time.Second)
			return addr
		}},
		{"distribution", pinned("../engines/distribution", "github.com/distribution/distribution/v3"), true, false, func(t *testing.T) string {
			program, err := engines.Distribution(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return kit.StartRegistry(t, kit.RegistryOptions{Password: true, Program: program}).Addr
		}},
	}
	return list
}

// slow are the registries that take long to compile. They are left out unless
// FASTPULL_REGISTRIES is set.
var slow = map[string]bool{"distribution": true}

// TestRegistries logs in to registries of other projects, pushes to each an image of either
// format, an index, and what refers to it, lists the tags, and pulls all of it again.
func TestRegistries(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	docker := kit.MakeImage(t, kit.ImageSpec{Platform: "linux/amd64", Layers: []kit.Layer{kit.SmallLayer(t, "word", "docker\n"), kit.NoiseLayer(t, 9<<20, 1)}})
	amd := kit.MakeImage(t, kit.ImageSpec{OCI: true, Platform: "linux/amd64", Layers: []kit.Layer{kit.SmallLayer(t, "word", "amd64\n")}})
	arm := kit.MakeImage(t, kit.ImageSpec{OCI: true, Platform: "linux/arm64", Layers: []kit.Layer{kit.SmallLayer(t, "word", "arm64\n")}})
	refs := []string{reg.Push(t, "img:docker", docker)}
	index, _ := reg.PushIndex(t, "img:index", amd, arm)
	head, err := remote.Head(kit.ParseRef(t, index))
	if err != nil {
		t.Fatal(err)
	}
	reg.Sign(t, "img", *head)
	file := filepath.Join(t.TempDir(), "b.tar")
	kit.Fastpull(t, append([]string{"bundle", "-o", file, "--layers=keep", "--platform=all", "--referrers"}, append(refs, index)...)...).Expect(t, 0)
	for _, r := range implementations(t) {
		if slow[r.name] && os.Getenv("FASTPULL_REGISTRIES") == "" {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			u := kit.NewUser(t)
			addr := r.start(t)
			if r.password {
				logsIn(t, u, addr)
			}
			to := addr + "/far/away"
			push := []string{"push", "--to", to, "--json", file}
			u.Fastpull(t, push...).Expect(t, 0, `"referrers": 3`)
			u.Fastpull(t, push...).Expect(t, 0, `"bytesSent": 0`)
			comesBack(t, u, to+"/img", docker, amd, head.Digest)
		})
	}
}

// logsIn logs a user in to a registry that has not let the user push without a password.
func logsIn(t *testing.T, u *kit.User, addr string) {
	t.Helper()
	u.Fastpull(t, "tags", addr+"/far/away/img").Expect(t, 4, "fastpull login "+addr)
	login := []string{"login", "-u", kit.RegistryUser, "--password-stdin", addr}
	u.Stdin = "guess\n"
	u.Fastpull(t, login...).Expect(t, 4, "does not take")
	u.Stdin = kit.RegistryPassword + "\n"
	u.Fastpull(t, login...).Expect(t, 0, "logged in to "+addr)
	u.Stdin = ""
}

// comesBack pulls what was pushed to a repository: by tag, by digest, all tags, and with what
// refers to it.
func comesBack(t *testing.T, u *kit.User, repo string, docker, amd kit.Image, index v1.Hash) {
	t.Helper()
	out := u.Fastpull(t, "tags", repo).Expect(t, 0).Stdout
	for _, tag := range []string{"docker", "index"} {
		if !strings.Contains(out, tag+"\n") {
			t.Errorf("%s is not in the list of tags:\n%s", tag, out)
		}
	}
	store := filepath.Join(t.TempDir(), "store")
	sum := u.Fastpull(t, "--store", store, "--platform=linux/amd64", "--json", repo+":docker", repo+"@"+index.String()).Expect(t, 0).Summary(t)
	for i, im := range []kit.Image{docker, amd} {
		if got := sum.Images[i]; got.ImageID != im.ID.String() || got.Digest == "" {
			t.Errorf("pulled: %+v, want %s", got, im.ID)
		}
	}
	all := u.Fastpull(t, "--null", "--all-tags", "--filter=[di]*", "--platform=linux/amd64", "--json", repo).Expect(t, 0).Summary(t)
	if len(all.Images) != 2 {
		t.Errorf("--all-tags: %+v", all.Images)
	}
	file := filepath.Join(t.TempDir(), "again.tar")
	u.Fastpull(t, "bundle", "-o", file, "--layers=keep", "--platform=all", "--referrers", repo+":index").Expect(t, 0)
	found := kit.Fastpull(t, "inspect", file).Expect(t, 0, index.String()).Stdout
	if n := strings.Count(found, "Referrer:"); n != 3 {
		t.Errorf("%d referrers came along, want 3:\n%s", n, found)
	}
	kit.Fastpull(t, "verify", file).Expect(t, 0)
}

// TestRegistriesTable compares the table in the docs with the registries that are tried.
func TestRegistriesTable(t *testing.T) {
	docs, err := os.ReadFile("../../docs/registries.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range implementations(t) {
		yes := map[bool]string{true: "yes", false: "no"}
		if row := fmt.Sprintf("| %s | %s | %s | %s |", r.name, r.version, yes[r.password], yes[r.referrers]); !strings.Contains(string(docs), row) {
			t.Errorf("docs/registries.md lacks the row:\n%s", row)
		}
	}
}
