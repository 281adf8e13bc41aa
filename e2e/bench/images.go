package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/sample"
)

// The images that can be asked for.
const (
	multi  = "multi"  // several layers
	one    = "one"    // much the same in a single layer
	double = "double" // twice multi
	py     = "py"     // the first layer of multi, and a layer of many small files
	small  = "small"  // twelve layers of 4.4 MB together
)

// testImage is an image at the registry.
type testImage struct {
	Name  string       `json:"name"`
	ID    string       `json:"id"` // of the config
	Stats sample.Stats `json:"stats"`

	ref    string   // HOST:PORT/NAME:TAG
	digest string   // of the manifest
	layers []string // their digests
}

// content says which directories the images are made of.
type content struct {
	groups [][]string          // those of the layers of multi
	single []string            // those of the layer of one
	trees  map[string][]string // those of plain tars
}

// defaultContent are directories that many machines have much in.
func defaultContent(ctx context.Context) (content, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOROOT")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return content{}, fault.WithHint(fmt.Errorf("find the Go toolchain: go env GOROOT: %w", err), "put go into PATH, or name other directories with -dirs")
	}
	llvm, err := filepath.Glob("/usr/lib/llvm*")
	if err != nil {
		return content{}, err
	}
	goroot := strings.TrimSpace(string(out))
	libraries := map[string]string{"amd64": "/usr/lib/x86_64-linux-gnu", "arm64": "/usr/lib/aarch64-linux-gnu"}[runtime.GOARCH]
	return content{
		groups: [][]string{
			{"/usr/bin", "/usr/sbin", "/usr/libexec", "/etc"},
			{goroot},
			append([]string{"/usr/lib/jvm", "/usr/lib/gcc"}, llvm...),
			{"/usr/share"},
			{libraries},
		},
		single: []string{"/usr/share", goroot, "/usr/lib/jvm", libraries},
		trees:  map[string][]string{share: {"/usr/share"}, golang: {goroot}, libs: {libraries}},
	}.existing(), nil
}

// givenContent is made of the directories of a list with commas.
func givenContent(list string) (content, error) {
	var c content
	for dir := range strings.SplitSeq(list, ",") {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() || !filepath.IsAbs(dir) {
			return content{}, fault.New(fault.Usage, "-dirs: %q is not the absolute name of a directory", dir)
		}
		c.groups = append(c.groups, []string{dir})
		c.single = append(c.single, dir)
	}
	c.trees = map[string][]string{share: c.single, golang: c.single, libs: c.single}
	return c, nil
}

// existing leaves out what this machine does not have.
func (c content) existing() content {
	missing := func(dir string) bool {
		st, err := os.Stat(dir)
		return err != nil || !st.IsDir()
	}
	e := content{single: slices.DeleteFunc(slices.Clone(c.single), missing)}
	for _, dirs := range c.groups {
		if dirs = slices.DeleteFunc(slices.Clone(dirs), missing); len(dirs) > 0 {
			e.groups = append(e.groups, dirs)
		}
	}
	e.trees = make(map[string][]string)
	for kind, dirs := range c.trees {
		e.trees[kind] = slices.DeleteFunc(slices.Clone(dirs), missing)
	}
	return e
}

// layer makes a layer of directories, under a folder of the image if below is
// not "".
func layer(below string, dirs []string) sample.Layer {
	var l sample.Layer
	for _, dir := range dirs {
		l.Trees = append(l.Trees, sample.Tree{Path: dir, As: filepath.Join(below, dir)})
	}
	return l
}

// layers are the new layers of an image: for double those on top of multi.
func (c content) layers(kind string) []sample.Layer {
	if kind == small {
		return smallLayers()
	}
	if kind == one {
		return []sample.Layer{layer("", c.single)}
	}
	below := map[string]string{double: "again"}[kind]
	var list []sample.Layer
	groups := c.groups
	if kind == py {
		groups = groups[:min(1, len(groups))]
	}
	for _, dirs := range groups {
		list = append(list, layer(below, dirs))
	}
	return list
}

// tag names an image: other directories are another one.
func (c content) tag(kind string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", c.groups, c.single))
	return fmt.Sprintf("%s-%x", kind, sum[:4])
}

// source returns the images, and makes those that the registry lacks.
type source struct {
	registry *registry
	content  content
	scale    float64 // of trees that are made up
	temp     string  // for layers on their way to the registry
	say      func(format string, args ...any)
	made     map[string]*testImage
}

// image finds an image at the registry, or makes it and sends it there.
func (s *source) image(ctx context.Context, kind string) (*testImage, error) {
	if img := s.made[kind]; img != nil {
		return img, nil
	}
	tag := s.content.tag(kind)
	if kind == py {
		t := pythonTree.scaled(s.scale)
		tag += fmt.Sprintf("-%d-%d", t.Files, t.Dirs)
	}
	ref := s.registry.addr + "/bench/sample:" + tag
	img, err := sample.Open(ctx, ref)
	if fault.KindOf(err) == fault.NotFound {
		img, err = s.make(ctx, kind, ref)
	}
	if err != nil {
		return nil, err
	}
	t := &testImage{Name: kind, ref: ref}
	if t.Stats, err = sample.StatsOf(img); err != nil {
		return nil, err
	}
	id, err := img.ConfigName()
	if err != nil {
		return nil, err
	}
	t.ID = id.String()
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	t.digest = digest.String()
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	for _, l := range manifest.Layers {
		t.layers = append(t.layers, l.Digest.String())
	}
	s.say("%s: %s", kind, t)
	if s.made == nil {
		s.made = make(map[string]*testImage)
	}
	s.made[kind] = t
	return t, s.warm(ctx, t)
}

// make builds an image and pushes it.
func (s *source) make(ctx context.Context, kind, ref string) (v1.Image, error) {
	s.say("%s: making it, which is done once and takes a minute or two", kind)
	o := sample.Options{Dir: filepath.Join(s.temp, kind)}
	if kind == double {
		first, err := s.image(ctx, multi)
		if err != nil {
			return nil, err
		}
		if o.Base, err = sample.Open(ctx, first.ref); err != nil {
			return nil, err
		}
	}
	defer os.RemoveAll(o.Dir)
	layers := s.content.layers(kind)
	if kind == py {
		files := filepath.Join(s.temp, "site-packages")
		defer os.RemoveAll(files)
		if err := pythonTree.scaled(s.scale).files(ctx, files); err != nil {
			return nil, fmt.Errorf("make the files of %s: %w", kind, err)
		}
		layers = append(layers, sample.Layer{Trees: []sample.Tree{{Path: files, As: "usr/lib/python3"}}})
	}
	img, err := sample.Build(ctx, o, layers...)
	if err != nil {
		return nil, err
	}
	if err := sample.Push(ctx, ref, img); err != nil {
		return nil, err
	}
	return sample.Open(ctx, ref)
}

// warm reads all layers once, so that the first to pull does not pay for the
// registry's disk.
func (s *source) warm(ctx context.Context, t *testImage) error {
	for _, digest := range t.layers {
		if err := s.registry.get(ctx, "/v2/bench/sample/blobs/"+digest); err != nil {
			return fmt.Errorf("read the image %s: %w", t.Name, err)
		}
	}
	return nil
}

func (t *testImage) String() string {
	text := fmt.Sprintf("%d layers, %.3f GB compressed, %.3f GB plain, %d entries",
		t.Stats.Layers, float64(t.Stats.Compressed)/1e9, float64(t.Stats.Plain)/1e9, t.Stats.Entries)
	if t.ID != "" { // it is one image
		text += fmt.Sprintf(", image ID %.19s", t.ID)
	}
	return text
}
