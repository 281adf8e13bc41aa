//go:build e2e

package dockerroot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/fastpull/fastpull/e2e/kit"
)

// oddMembers are values for the members of an image's config. No builder writes most
// of them.
var oddMembers = map[string][]string{
	"created": {``, `null`, `""`, `"yesterday"`, `5`, `"0001-01-01T00:00:00Z"`, `"9999-12-31T23:59:59.999999999Z"`, `"0000-01-01T00:00:00+23:59"`,
		`"2021-05-04T3:02:01Z"`, `"2021-05-04T03:02:01,5Z"`, `"2021-05-04T03:02:01+99:00"`, `"2021-05-04"`},
	"os":           {``, `null`, `""`, `"Linux"`, `"LINUX"`, `"linux "`, `"windows"`, `"plan9"`, `5`},
	"architecture": {`"odd"`, `"AMD64"`, `5`},
	"variant":      {`null`, `"v9"`, `5`},
	"os.version":   {`null`, `"10.0.17763"`, `5`},
	"os.features":  {`null`, `["win32k"]`, `"win32k"`, `[5]`},
	"rootfs":       {``, `null`, `[]`, `"layers"`, `{}`, `{"type":"layers"}`, `{"diff_ids":%s}`, `{"type":"windows","diff_ids":%s}`, `{"type":"layers+base","diff_ids":%s}`, `{"type":5,"diff_ids":%s}`, `{"type":"layers","diff_ids":%s,"base_layer":"x"}`},
	"history": {``, `null`, `[]`, `{}`, `"none"`, `[{}]`, `[null]`, `[{},{}]`, `[{},{"empty_layer":true}]`, `[{"empty_layer":true},{"empty_layer":true}]`, `[{"empty_layer":"true"}]`,
		`[{"created":"x"}]`, `[{"created":null,"created_by":null,"author":null,"comment":null}]`, `[{"created_by":5}]`, `[{"created":"0001-01-01T00:00:00Z"},{"empty_layer":true,"created":"9999-12-31T23:59:59Z"}]`},
	"config":           {``, `null`, `{}`, `[]`, `"x"`, `5`},
	"container_config": {`null`, `{}`, `"x"`, `{"Env":"A=1"}`, `{"ExposedPorts":{"a":{}}}`},
	"container":        {`null`, `"x"`, `5`},
	"id":               {`null`, `"x"`, `5`},
	"parent":           {`null`, `"x"`, `5`, `"sha256:0000000000000000000000000000000000000000000000000000000000000000"`},
	"author":           {`null`, `5`, "\"\xff\xfe\"", `"\ud800"`, `"` + strings.Repeat("long ", 20_000) + `"`},
	"comment":          {`null`, `5`, `"\u0000"`},
	"docker_version":   {`null`, `"99.99"`, `5`},
	"Size":             {`null`, `-1`, `1.5`, `"1"`, `9223372036854775807`, `9223372036854775808`, `1e30`},
	"moby.buildkit.x":  {`null`, `1e999`, `{"a":[{}]}`, strings.Repeat("[", 9000) + strings.Repeat("]", 9000), strings.Repeat("[", 10_500) + strings.Repeat("]", 10_500)},
	"OS":               {`"linux"`, `"Linux"`}, // the same member for Docker, which takes the last
	"RootFS":           {`null`, `{}`},
}

// oddSettings are such values for members of what a container gets of the image.
var oddSettings = map[string][]string{
	"Env":             {`null`, `"A=1"`, `[1]`, `[null]`, `["","=","A","A=1","A=2"]`},
	"Cmd":             {`null`, `"/bin/ls"`, `[]`, `[""]`, `[1]`, `{"a":1}`},
	"Entrypoint":      {`null`, `"/bin/ls"`, `[]`, `[""]`, `[1]`},
	"Shell":           {`null`, `"sh"`, `[]`, `[1]`},
	"OnBuild":         {`null`, `"RUN x"`, `["FROM x"]`, `[1]`},
	"ExposedPorts":    {`null`, `{}`, `["80"]`, `"80"`, `{"80":{}}`, `{"80/tcp":null}`, `{"80/TCP":{}}`, `{"":{}}`, `{"http":{}}`, `{"80-90/tcp":{}}`, `{"99999/tcp":{}}`, `{"-1/tcp":{}}`, `{"80/odd":{}}`, `{"80/tcp/x":{}}`, `{"80/tcp":{"x":1}}`, `{"80/tcp":1}`},
	"Volumes":         {`null`, `["/a"]`, `{"":{}}`, `{"relative":{}}`, `{"/":{}}`, `{"/a":null}`, `{"../..":{}}`, `{"/a":1}`},
	"Labels":          {`null`, `["a"]`, `{"a":1}`, `{"":""}`, `{"a":null}`},
	"WorkingDir":      {`null`, `5`, `"relative"`, `"../.."`},
	"User":            {`null`, `5`, `"x:y:z"`, `"-1"`, `"4294967296"`},
	"Hostname":        {`null`, `5`, `"` + strings.Repeat("h", 300) + `"`},
	"Domainname":      {`5`, `"a b"`},
	"MacAddress":      {`null`, `5`, `"zz"`},
	"Image":           {`null`, `5`, `"no such/IMAGE"`},
	"Tty":             {`null`, `"yes"`, `true`},
	"AttachStdin":     {`1`, `true`},
	"ArgsEscaped":     {`1`, `true`},
	"NetworkDisabled": {`"x"`, `true`},
	"StopSignal":      {`null`, `9`, `"nonsense"`},
	"StopTimeout":     {`null`, `-5`, `1.5`, `"5"`, `1e30`},
	"Healthcheck":     {`null`, `[]`, `{}`, `{"Test":null}`, `{"Test":"CMD x"}`, `{"Test":["odd"]}`, `{"Test":[]}`, `{"Interval":-1}`, `{"Interval":"5s"}`, `{"Interval":9223372036854775807}`, `{"Retries":-3}`, `{"Retries":1.5}`, `{"StartInterval":-1}`, `{"StartInterval":"x"}`},
	"Unknown":         {`null`, `{"x":[1]}`},
}

// oddConfig is an image's config in which one member is odd.
type oddConfig struct {
	what   string
	config string
}

// oddConfigs are all of them for an image of one layer.
func oddConfigs(diffID v1.Hash) (list []oddConfig) {
	base := map[string]string{
		"os": `"linux"`, "architecture": fmt.Sprintf("%q", runtime.GOARCH), "created": `"2021-05-04T03:02:01Z"`,
		"rootfs": `{"type":"layers","diff_ids":%s}`, "history": `[{"created":"2021-05-04T03:02:01Z","created_by":"e2e"}]`,
		"config": `{"Cmd":["/bin/cat","/etc/seed"],"Env":["PATH=/bin"]}`,
	}
	add := func(key, value string) {
		members := maps.Clone(base)
		if members[key] = value; value == "" {
			delete(members, key)
		}
		// An author makes each another image.
		text := fmt.Sprintf(`{"author":"%d"`, len(list))
		for _, k := range slices.Sorted(maps.Keys(members)) {
			if k != "OS" && k != "RootFS" {
				text += fmt.Sprintf(",%q:%s", k, members[k])
			}
		}
		for _, last := range []string{"OS", "RootFS"} {
			if v, ok := members[last]; ok {
				text += fmt.Sprintf(",%q:%s", last, v)
			}
		}
		text = strings.ReplaceAll(text, "%s", fmt.Sprintf("[%q]", diffID)) + "}"
		list = append(list, oddConfig{fmt.Sprintf("%s: %.80s", key, value), text})
	}
	add("comment", `"usual"`)
	for _, key := range slices.Sorted(maps.Keys(oddMembers)) {
		for _, value := range oddMembers[key] {
			add(key, value)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(oddSettings)) {
		for _, value := range oddSettings[key] {
			add("config", fmt.Sprintf(`{"Cmd":["/bin/cat"],%q:%s}`, key, value))
		}
	}
	return list
}

// oddImage is an image of one layer with a config of which every byte is given.
func oddImage(t *testing.T, l kit.Layer, config string) kit.Image {
	t.Helper()
	im := kit.Image{Layers: []kit.Layer{l}, Config: []byte(config), ID: kit.HashOf([]byte(config)), MediaType: types.DockerManifestSchema2}
	im.Manifest = kit.Encode(t, v1.Manifest{
		SchemaVersion: 2, MediaType: im.MediaType,
		Config: v1.Descriptor{MediaType: types.DockerConfigJSON, Digest: im.ID, Size: int64(len(im.Config))},
		Layers: []v1.Descriptor{{MediaType: l.MediaType(false), Digest: l.Digest, Size: int64(len(l.Packed))}},
	})
	im.Digest = kit.HashOf(im.Manifest)
	return im
}

// oddRow is why fastpull and a docker pull differ on a config.
type oddRow struct {
	name string
	what *regexp.Regexp
}

// The configs that only one of the two takes.
var (
	refusedHere = []oddRow{
		{"a time that only old versions of Go read: Docker 29 does not", regexp.MustCompile(`^created: "2021-05-04T(3:02|03:02:01(,|\+99))`)},
		{"no system: it is not told what the image is for", regexp.MustCompile(`^os: (|null|"")$`)},
	}
	refusedBy29 = []oddRow{
		{"a port that is none, or several", regexp.MustCompile(`ExposedPorts`)},
		{"text in the place of words", regexp.MustCompile(`"(Cmd|Entrypoint|Shell)":"`)},
		{"a health check's interval that earlier versions do not know", regexp.MustCompile(`"StartInterval":"x"`)},
	}
	takenBy29 = []oddRow{
		{"a system that earlier versions crash at", regexp.MustCompile(`(?i)^os: "linux"`)},
		{"a member that earlier versions have", regexp.MustCompile(`MacAddress`)},
	}
)

func explained(rows []oddRow, what string) bool {
	return slices.ContainsFunc(rows, func(r oddRow) bool { return r.what.MatchString(what) })
}

// TestOddConfigs puts images with all odd configs into one store, and the same into two
// Dockers. What docker pull refuses fastpull refuses. On the store both Dockers start,
// and have each image that is in it: they list it, inspect it, show its history, save
// it, and make a container of it or say why not. FASTPULL_ODD_EACH=1 has Docker pull all of
// them, and not only one in four.
func TestOddConfigs(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	base := kit.BaseLayer(t, 0)
	odd := oddConfigs(base.DiffID)
	store := filepath.Join(t.TempDir(), "store")
	args := []string{"--store", store, "--keep-going", "--json"}
	var images []kit.Image
	for i, o := range odd {
		im := oddImage(t, base, o.config)
		images, args = append(images, im), append(args, reg.Push(t, fmt.Sprintf("odd:%d", i), im))
	}
	run := kit.Fastpull(t, args...)
	sum := run.Summary(t)
	if len(sum.Images) != len(odd) {
		t.Fatalf("the summary has %d images of %d\n%s", len(sum.Images), len(odd), run.Stderr)
	}
	taken := make([]bool, len(odd))
	warned := make([]bool, len(odd))
	for i, im := range sum.Images {
		taken[i] = im.Status == "pulled"
		warned[i] = strings.Contains(run.Stderr, fmt.Sprintf("odd:%d: Docker 29 and later do not show", i))
		if im.Status != "pulled" && im.Status != "failed" {
			t.Errorf("%s: %s", odd[i].what, im.Status)
		}
	}
	if !taken[0] {
		t.Fatalf("the usual config is refused: %s", sum.Images[0].Error)
	}
	kit.Fastpull(t, "verify", "--store", store).Expect(t, 0, "all as it should be")

	// Docker takes long to pull all of them.
	each := number(t, "FASTPULL_ODD_EACH", 4)
	for _, docker := range []kit.Release{kit.Debian, kit.TodayOverlay} {
		d := kit.StartDockerd(t, kit.DockerdOptions{Release: docker})
		for i, o := range odd {
			if i%each != 0 {
				continue
			}
			refused := pullRefused(t, d, reg.Addr+"/odd", fmt.Sprint(i))
			switch {
			case (refused == "") == taken[i]:
				if warned[i] && docker == kit.TodayOverlay {
					t.Errorf("%s: there is a warning, and Docker 29 takes it", o.what)
				}
			case refused == "":
				if !explained(refusedHere, o.what) && !(docker == kit.TodayOverlay && explained(takenBy29, o.what)) {
					t.Errorf("%s: docker pull takes it, fastpull says: %s", o.what, sum.Images[i].Error)
				}
			case docker == kit.TodayOverlay && warned[i]:
				if !explained(refusedBy29, o.what) {
					t.Errorf("%s: no row explains that Docker 29 refuses it: %s", o.what, refused)
				}
			default:
				t.Errorf("%s: fastpull takes it, docker pull says: %s", o.what, refused)
			}
		}
		d.Stop()
	}
	for _, docker := range []kit.Release{kit.Debian, kit.TodayOverlay} {
		t.Run([]string{kit.Debian: "20.10", kit.TodayOverlay: "29"}[docker], func(t *testing.T) {
			d := kit.StartDockerd(t, kit.DockerdOptions{Release: docker, Root: store})
			for i, o := range odd {
				if shown := taken[i] && !(warned[i] && docker == kit.TodayOverlay); shown {
					d.Has(t, images[i].ID.String(), o.what)
				}
			}
			var list []struct{ ID string }
			_, body := d.Call(t, http.MethodGet, "/images/json?all=1", nil)
			if err := json.Unmarshal(body, &list); err != nil {
				t.Fatalf("the list of images: %v\n%s", err, body)
			}
			listed := map[string]bool{}
			for _, im := range list {
				listed[im.ID] = true
			}
			for i, o := range odd {
				if want := taken[i] && !(warned[i] && docker == kit.TodayOverlay); listed[images[i].ID.String()] != want {
					t.Errorf("%s: listed %v, want %v", o.what, !want, want)
				}
			}
			if got := d.Must(t, "run", "--rm", "--network", "none", "--security-opt", "seccomp=unconfined", reg.Addr+"/odd:0"); got != "0" {
				t.Errorf("docker run prints %q", got)
			}
			d.Stop()
		})
	}
}

// TestUnfitConfig puts a config into a store with which dockerd 20.10 does not start, as
// fastpull once did. Verify names it, rm removes it, and dockerd starts.
func TestUnfitConfig(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.BaseLayer(t, 0)}, Cmd: []string{"/bin/cat", "/etc/seed"}})
	ref := reg.Push(t, "img:tag", im)
	store := filepath.Join(t.TempDir(), "store")
	kit.Fastpull(t, "--store", store, ref).Expect(t, 0)
	config := strings.Replace(string(im.Config), `"linux"`, `"Linux"`, 1)
	id := kit.HashOf([]byte(config))
	kit.WriteFile(t, filepath.Join(store, "image/overlay2/imagedb/content/sha256", id.Hex), config)

	crashes(t, store)
	kit.Fastpull(t, "verify", "--store", store).Expect(t, 5, id.String(), `the system "Linux"`, "fastpull rm --force --store "+store+" "+id.Hex[:12])
	kit.Fastpull(t, "verify", "--repair", "--store", store).Expect(t, 5, id.String())
	kit.Fastpull(t, "rm", "--force", "--store", store, id.Hex[:12]).Expect(t, 0, "deleted "+id.String())
	kit.Fastpull(t, "verify", "--store", store).Expect(t, 0)
	d := kit.StartDockerd(t, kit.DockerdOptions{Root: store})
	if got := d.Must(t, "run", "--rm", "--network", "none", ref); got != "0" {
		t.Errorf("docker run prints %q", got)
	}
}

// pullRefused pulls an image through the Engine's API, and returns its error.
func pullRefused(t *testing.T, d *kit.Dockerd, repo, tag string) string {
	t.Helper()
	code, body := d.Call(t, http.MethodPost, "/images/create?"+url.Values{"fromImage": {repo}, "tag": {tag}}.Encode(), nil)
	if code != http.StatusOK {
		return fmt.Sprintf("%d %s", code, body)
	}
	done := false
	for line := range bytes.Lines(body) {
		var m struct{ Error, Status string }
		if err := json.Unmarshal(line, &m); err != nil {
			return err.Error()
		}
		if m.Error != "" {
			return m.Error
		}
		done = done || strings.HasPrefix(m.Status, "Status: ")
	}
	if !done {
		return "the connection ended"
	}
	return ""
}

// crashes makes sure that dockerd 20.10 does not start on a root.
func crashes(t *testing.T, root string) {
	t.Helper()
	dir, out := kit.ShortTempDir(t), &kit.LogBuffer{}
	config := filepath.Join(dir, "daemon.json")
	kit.WriteFile(t, config, "{}")
	cmd := kit.Debian.Command(t, nil, "--config-file", config, "--data-root", root, "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "-H", "unix://"+filepath.Join(dir, "s"), "--iptables=false", "--bridge=none")
	cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	cmd.Stdout, cmd.Stderr = out, out
	t.Cleanup(func() { kit.UnmountBelow(t, dir) })
	stop := kit.StartServer(t, cmd, 15*time.Second)
	if !kit.Eventually(time.Minute, func() bool { return strings.Contains(out.String(), "panic: ") }) {
		t.Errorf("dockerd did not crash: the test is of nothing\n%s", out.Tail())
	}
	stop()
}
