package main

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// entrant is a program that competes.
type entrant struct {
	name  string
	image *testImage // or
	tar   *testTar
	turn  func(ctx context.Context, d *disk) (figures, error)

	diskless bool // turn gets no disk
}

// contest is several entrants and what they have come to.
type contest struct {
	name     string
	metric   metric
	entrants []entrant
	rounds   [][]figures // of the entrants, in their order
}

// metric is the figure that counts.
type metric struct {
	name string
	of   func(figures) float64
}

var (
	wallTime = metric{"wall time", func(f figures) float64 { return f.Wall }}
	peakSize = metric{"peak memory", func(f figures) float64 { return float64(f.Peak) }}
)

// bench is a run of the program.
type bench struct {
	builds  []fastpull
	untars  []fastpull // builds of untar
	peers   string     // the program, when it was built
	gunzip  string     // this one too
	crane   string     // and this one
	against []string   // names of others
	cache   string
	disk    string // where the files of disks are; "" is in memory
	temp    string
	source  *source
	rounds  int
	limit   time.Duration  // for a turn
	scale   float64        // of trees that are made up
	lines   []func() error // close what stands before the registry
	tars    map[string]*testTar
}

// The others that can compete. Containerd is a program where images are pulled,
// and a library where a tar is extracted.
const (
	docker     = "docker"
	ctr        = "containerd"
	podman     = "podman"
	tarProgram = "tar"
	goArchive  = "go-archive"
	umoci      = "umoci"
)

var others = []string{docker, ctr, podman, tarProgram, goArchive, umoci, skopeo, crane, igzip, libdeflate, pigz, klauspost, pgzip, stdlib}

// contestNames are all there are, in the order in which they are held.
var contestNames = []string{
	"store/multi", "store/one", "load/multi", "load/py", "restart/multi", "restart/py", "again/multi", "memory",
	"containerd1.6/multi", "containerd1.6/py", "containerd2.4/multi", "containerd2.4/py", "docker29/multi", "docker29/py",
	"podman/multi", "podman/py",
	"baked/" + hundred,
	"rootfs/multi",
	"bundle/plain", "bundle/keep",
	lineStore, lineToken, lineAgain,
	"files/share", "files/go", "files/libs", "files/python", "files/empty",
	"gzip/share", "gzip/go", "gzip/libs", "gzip/python",
}

// ofFiles tells the contests that extract a plain tar, which pull nothing.
func ofFiles(name string) bool { return filepath.Dir(name) == "files" }

// ofGzip tells those that decode a gzip file.
func ofGzip(name string) bool { return filepath.Dir(name) == "gzip" }

// ofImages tells those that pull images.
func ofImages(name string) bool { return !ofFiles(name) && !ofGzip(name) }

// matching are the names that match, of all contests or of those of files.
func matching(match *regexp.Regexp, files bool) []string {
	return slices.DeleteFunc(slices.Clone(contestNames), func(name string) bool {
		return files && !ofFiles(name) || !match.MatchString(name)
	})
}

// contests prepares those of these names, and the images and tars that they
// need.
func (b *bench) contests(ctx context.Context, names []string) ([]*contest, error) {
	var list []*contest
	for _, name := range names {
		c := &contest{name: name, metric: wallTime}
		kind := filepath.Base(name)
		var err error
		switch filepath.Dir(name) {
		case "store":
			err = b.storeContest(ctx, c, kind)
		case "load":
			err = b.loadContest(ctx, c, b.toEngine, kind)
		case "restart":
			err = b.loadContest(ctx, c, b.restarting, kind)
		case "containerd1.6":
			err = b.containerdContest(ctx, c, debian, kind)
		case "containerd2.4":
			err = b.containerdContest(ctx, c, today, kind)
		case "docker29":
			err = b.docker29Contest(ctx, c, kind)
		case "podman":
			err = b.podmanContest(ctx, c, kind)
		case "baked":
			err = b.bakedContest(ctx, c)
		case "rootfs":
			err = b.forBuilds(ctx, c, b.toDirectory, kind)
		case "again":
			err = b.forBuilds(ctx, c, b.again, kind)
		case "bundle":
			err = b.bundleContest(ctx, c, kind)
		case "line":
			err = b.lineContest(ctx, c)
		case "files":
			if kind == empty {
				c.metric = peakSize
			}
			err = b.filesContest(ctx, c, kind)
		case "gzip":
			err = b.gzipContest(ctx, c, kind)
		default:
			c.metric = peakSize
			err = b.forBuilds(ctx, c, b.toStore, multi, double)
		}
		if err != nil {
			return nil, fmt.Errorf("prepare %s: %w", name, err)
		}
		list = append(list, c)
	}
	return list, nil
}

func (b *bench) storeContest(ctx context.Context, c *contest, kind string) error {
	if err := b.forBuilds(ctx, c, b.toStore, kind); err != nil {
		return err
	}
	img := c.entrants[0].image
	if slices.Contains(b.against, docker) {
		c.entrants = append(c.entrants, b.byDocker(debian, "docker pull", img, "pull", "--quiet", img.ref))
	}
	if slices.Contains(b.against, ctr) {
		c.entrants = append(c.entrants, b.byContainerd(debian, img))
	}
	return nil
}

// containerdContest is about ways into a containerd: fastpull's, and its own.
func (b *bench) containerdContest(ctx context.Context, c *contest, r release, kind string) error {
	if err := b.bothPromises(ctx, c, b.toContainerd(r), kind); err != nil {
		return err
	}
	if slices.Contains(b.against, ctr) {
		c.entrants = append(c.entrants, b.byContainerd(r, c.entrants[0].image))
	}
	return nil
}

// docker29Contest is about ways into an Engine that has containerd's store.
func (b *bench) docker29Contest(ctx context.Context, c *contest, kind string) error {
	if err := b.bothPromises(ctx, c, b.toDocker29, kind); err != nil {
		return err
	}
	if slices.Contains(b.against, docker) {
		img := c.entrants[0].image
		c.entrants = append(c.entrants, b.byDocker(today, "docker pull", img, "pull", "--quiet", img.ref))
	}
	return nil
}

// loadContest is about ways into an Engine: fastpull's, and Docker's.
func (b *bench) loadContest(ctx context.Context, c *contest, way func(fastpull, *testImage) entrant, kind string) error {
	if err := b.forBuilds(ctx, c, way, kind); err != nil {
		return err
	}
	if !slices.Contains(b.against, docker) {
		return nil
	}
	img := c.entrants[0].image
	c.entrants = append(c.entrants, b.byDocker(debian, "docker pull", img, "pull", "--quiet", img.ref))
	tar, err := b.archive(ctx, b.builds[0], img)
	if err == nil {
		c.entrants = append(c.entrants, b.byDocker(debian, "docker load", img, "load", "--quiet", "--input", tar))
	}
	return err
}

// bothPromises has each build compete twice: as it is, where the files are on the disk at its
// end, and with what the engines promise, which leave them to the kernel.
func (b *bench) bothPromises(ctx context.Context, c *contest, make func(fastpull, *testImage) entrant, kind string) error {
	if err := b.forBuilds(ctx, c, make, kind); err != nil {
		return err
	}
	return b.forBuilds(ctx, c, func(p fastpull, img *testImage) entrant {
		e := make(p.noSync(), img)
		e.name += " --no-sync"
		return e
	}, kind)
}

// forBuilds has each build compete for each of the images.
func (b *bench) forBuilds(ctx context.Context, c *contest, make func(fastpull, *testImage) entrant, kinds ...string) error {
	for _, p := range b.builds {
		for _, kind := range kinds {
			img, err := b.source.image(ctx, kind)
			if err != nil {
				return err
			}
			e := make(p, img)
			if len(kinds) > 1 {
				e.name += " " + kind
			}
			c.entrants = append(c.entrants, e)
		}
	}
	return nil
}

// hold has the rounds of a contest. Rounds that were complete when an error came
// stay in c.
func (b *bench) hold(ctx context.Context, c *contest) error {
	for n := range b.rounds {
		var round []figures
		for _, e := range c.entrants {
			f, err := b.turn(ctx, e)
			if err != nil {
				return fmt.Errorf("%s, round %d, %s: %w", c.name, n+1, e.name, err)
			}
			b.source.say("%s, round %d of %d, %s: %.2f s, CPU %.2f s, peak %d MiB", c.name, n+1, b.rounds, e.name, f.Wall, f.Machine, f.Peak>>20)
			round = append(round, f)
		}
		c.rounds = append(c.rounds, round)
	}
	return nil
}

// turn gives an entrant a new disk, if it wants one, and a limited time.
func (b *bench) turn(ctx context.Context, e entrant) (f figures, err error) {
	if e.diskless {
		ctx, cancel := b.limited(ctx)
		defer cancel()
		return e.turn(ctx, nil)
	}
	err = b.onDisk(ctx, e.subject(), func(ctx context.Context, d *disk) (err error) {
		f, err = e.turn(ctx, d)
		return err
	})
	return f, err
}

// subject is what an entrant works on.
type subject struct {
	name, text string
	size       int64 // plain
	entries    int
}

func (e entrant) subject() subject {
	if e.tar != nil {
		return e.tar.subject()
	}
	return subject{e.image.Name, e.image.String(), e.image.Stats.Plain, e.image.Stats.Entries}
}

// onDisk does something on a new disk that has room for s, in a limited time.
func (b *bench) onDisk(ctx context.Context, s subject, do func(context.Context, *disk) error) (err error) {
	ctx, cancel := b.limited(ctx)
	defer cancel()
	if b.disk == "" {
		if err := enoughMemory(s); err != nil {
			return err
		}
	}
	d, err := newDisk(ctx, b.disk, filepath.Join(b.temp, "disk"), s.entries)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := d.close(); err == nil {
			err = cerr
		}
	}()
	return do(ctx, d)
}

// limited ends what takes too long.
func (b *bench) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, b.limit, fmt.Errorf("not done after %v", b.limit))
}

// enoughMemory refuses to begin what the disk in memory has no room for: an
// image may be there as plain tars and as files, and for a moment in the page
// cache too.
func enoughMemory(s subject) error {
	free, err := availableMemory()
	if err != nil {
		return err
	}
	if need := 3 * s.size; free < need {
		return fmt.Errorf("%d MiB of memory are free, and a disk in memory for %s takes up to %d MiB", free>>20, s.name, need>>20)
	}
	return nil
}
