package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/sample"
)

// hundred is a list of images that share their layers but one: multi, with a layer of
// uniqueSize each on top.
const (
	hundred    = "hundred"
	uniqueSize = 2 << 20
)

// testList is a list of images at the registry.
type testList struct {
	refs  []string
	image *testImage // the sum of them
}

// list finds the images of hundred at the registry, or makes them and sends them there.
func (s *source) list(ctx context.Context) (*testList, error) {
	base, err := s.image(ctx, multi)
	if err != nil {
		return nil, err
	}
	l := &testList{image: &testImage{Name: hundred, Stats: base.Stats}}
	for i := range max(3, int(100*s.scale)) {
		ref := fmt.Sprintf("%s-app%d", base.ref, i)
		if _, err := sample.Open(ctx, ref); fault.KindOf(err) == fault.NotFound {
			err = s.makeApp(ctx, base.ref, ref, i)
			if err != nil {
				return nil, err
			}
		} else if err != nil {
			return nil, err
		}
		l.refs = append(l.refs, ref)
		l.image.Stats.Layers++
		l.image.Stats.Plain += uniqueSize
		l.image.Stats.Compressed += uniqueSize
		l.image.Stats.Entries++
	}
	s.say("%s: %d images, %s", hundred, len(l.refs), l.image)
	return l, nil
}

// makeApp makes the nth image of hundred, whose own layer does not compress.
func (s *source) makeApp(ctx context.Context, base, ref string, n int) error {
	o := sample.Options{Dir: filepath.Join(s.temp, hundred)}
	defer os.RemoveAll(o.Dir)
	var err error
	if o.Base, err = sample.Open(ctx, base); err != nil {
		return err
	}
	noise := make([]byte, uniqueSize)
	_, _ = rand.NewChaCha8([32]byte{byte(n), 1}).Read(noise) // which never fails
	img, err := sample.Build(ctx, o, sample.Layer{Text: map[string]string{fmt.Sprintf("opt/app%d", n): string(noise)}})
	if err != nil {
		return err
	}
	return sample.Push(ctx, ref, img)
}

// bakedContest is about ways into the root of a containerd that does not run: fastpull's from
// the registry, and that of a containerd that is started on it and imports an archive, which
// is there already.
func (b *bench) bakedContest(ctx context.Context, c *contest) error {
	l, err := b.source.list(ctx)
	if err != nil {
		return err
	}
	list := filepath.Join(b.cache, "hundred.txt")
	if err := os.WriteFile(list, []byte(strings.Join(l.refs, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	into := func(name string, p fastpull) entrant {
		return b.intoRoot(name, l, func(ctx context.Context, d *disk) (usage, error) {
			return p.pull(ctx, nil, "--containerd-root", d.path("containerd"), "--namespace", "default", "--file", list)
		})
	}
	for _, p := range b.builds {
		name := p.name + " --containerd-root"
		c.entrants = append(c.entrants, into(name, p), into(name+" --no-sync", p.noSync()))
	}
	if !slices.Contains(b.against, ctr) {
		return nil
	}
	archive := filepath.Join(b.cache, "archives", fmt.Sprintf("hundred-%d.tar", len(l.refs)))
	if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
		return err
	}
	b.source.say("%s: writing an archive for ctr images import", hundred)
	if _, _, err := (command{program: b.builds[0].program, args: []string{"bundle", "-q", "--layers", "keep", "-o", archive, "--file", list}}).run(ctx); err != nil {
		return err
	}
	c.entrants = append(c.entrants, b.intoRoot("ctr images import", l, func(ctx context.Context, d *disk) (u usage, err error) {
		daemon, err := b.startContainerd(ctx, d, today)
		if err != nil {
			return u, err
		}
		defer daemon.stop()
		if _, _, err := daemon.ctr(ctx, "images", "import", archive); err != nil {
			return u, fmt.Errorf("%w%s", err, lastLines(daemon.out.String()))
		}
		return daemon.usage()
	}))
	return nil
}

// intoRoot is a way into a new root. Afterwards a containerd that is started on it has to have
// all images.
func (b *bench) intoRoot(name string, l *testList, bring func(context.Context, *disk) (usage, error)) entrant {
	return entrant{name: name, image: l.image, turn: func(ctx context.Context, d *disk) (f figures, err error) {
		f, err = b.measure(ctx, d, func(ctx context.Context) (usage, error) { return bring(ctx, d) })
		if err != nil {
			return f, err
		}
		c, err := b.startContainerd(ctx, d, today)
		if err != nil {
			return f, err
		}
		defer c.stop()
		return f, c.hasAll(ctx, l.refs)
	}}
}

// hasAll checks that containerd has all of the images, unpacked.
func (c *containerd) hasAll(ctx context.Context, refs []string) error {
	list, _, err := c.ctr(ctx, "images", "check")
	if err != nil {
		return err
	}
	for _, ref := range refs {
		if !slices.ContainsFunc(strings.Split(list, "\n"), func(line string) bool {
			return strings.HasPrefix(line, ref+" ") && strings.Contains(line, " complete ") && strings.HasSuffix(strings.TrimSpace(line), "true")
		}) {
			return fmt.Errorf("containerd has no whole image %s:\n%s", ref, list)
		}
	}
	return nil
}
