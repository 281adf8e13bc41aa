package overlay

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Amount is the size of some files. A file with several names counts once.
type Amount struct {
	Count int   `json:"count"`
	Size  int64 `json:"size"` // of the content of files
	Disk  int64 `json:"disk"` // of the blocks that it has on the disk
}

func (r *Amount) add(o Amount) {
	r.Count++
	r.Size += o.Size
	r.Disk += o.Disk
}

// ImageUsage is what the layers of an image take.
type ImageUsage struct {
	ID     digest.Digest `json:"id"`
	Names  []string      `json:"names"`
	All    Amount        `json:"all"`
	Shared Amount        `json:"shared"` // what other images have too
	Unique Amount        `json:"unique"` // what goes with it
}

// Usage is what a store takes.
type Usage struct {
	Images  []ImageUsage `json:"images"`
	Layers  Amount       `json:"layers"`  // of images, each once
	Loose   Amount       `json:"loose"`   // layers that no image has
	Other   Amount       `json:"other"`   // what else is in overlay2/: containers, what Docker's builder has
	Partial Amount       `json:"partial"` // blobs that are not whole
	Staging Amount       `json:"staging"` // what processes work on, or have left
	Staged  Amount       `json:"staged"`  // images that wait to be published, see [Staging]
	Total   Amount       `json:"total"`   // of all that is in the directory
}

// Usage measures the parts of the store. It takes no lock: what others change
// meanwhile may count or not.
func (r *Reader) Usage(ctx context.Context) (u Usage, err error) {
	st, err := r.stock()
	if err != nil {
		return u, err
	}
	images, damaged := r.Images()
	var mu sync.Mutex
	layers := make(map[digest.Digest]Amount, len(st.entries))
	named := make(map[string]bool)
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for chain, e := range st.entries {
		if e.cacheID == "" {
			continue
		}
		named[e.cacheID] = true
		g.Go(func() error {
			amount := measure(r.path("overlay2", e.cacheID))
			mu.Lock()
			defer mu.Unlock()
			layers[chain] = amount
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return u, context.Cause(ctx)
	}
	users := make(map[digest.Digest]int)
	for _, img := range images {
		for _, l := range img.Layers {
			users[l.ChainID]++
		}
	}
	u.Images = []ImageUsage{}
	for _, img := range images {
		one := ImageUsage{ID: img.ID, Names: append([]string{}, img.Names...)}
		for _, l := range img.Layers {
			amount, ok := layers[l.ChainID]
			if !ok {
				continue
			}
			one.All.add(amount)
			if users[l.ChainID] > 1 {
				one.Shared.add(amount)
			} else {
				one.Unique.add(amount)
			}
		}
		u.Images = append(u.Images, one)
	}
	for chain, amount := range layers {
		if users[chain] > 0 {
			u.Layers.add(amount)
		} else {
			u.Loose.add(amount)
		}
	}
	for _, part := range []struct {
		dir string
		to  *Amount
	}{{"overlay2", &u.Other}, {"fastpull/partial", &u.Partial}, {"fastpull/run", &u.Staging}} {
		entries, err := os.ReadDir(r.path(part.dir))
		if err != nil {
			continue // not there, or it is not for this user
		}
		for _, e := range entries {
			if part.dir != "overlay2" || !named[e.Name()] && e.Name() != "l" {
				part.to.add(measure(r.path(part.dir, e.Name())))
			}
			if ctx.Err() != nil {
				return u, context.Cause(ctx)
			}
		}
	}
	waiting, unready, err := r.Staging().Waiting()
	u.Staged = measure(r.path(stagedDir))
	u.Staged.Count = len(waiting) + len(unready)
	u.Total = measure(r.dir)
	return u, errors.Join(damaged, err)
}

// measure looks at a tree. An unreadable file counts for nothing. It does not look
// into mounts.
func measure(root string) (amount Amount) {
	type inode struct{ dev, ino uint64 }
	seen := make(map[inode]bool)
	var own unix.Stat_t
	if unix.Lstat(root, &own) != nil {
		return amount
	}
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err != nil || unix.Lstat(path, &st) != nil {
			return nil
		}
		if st.Dev != own.Dev {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		kind := st.Mode & unix.S_IFMT
		if st.Nlink > 1 && kind != unix.S_IFDIR {
			id := inode{uint64(st.Dev), st.Ino} //nolint:unconvert // 32 bit on some platforms
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		amount.Count++
		amount.Disk += int64(st.Blocks) * 512 //nolint:unconvert // 32 bit on some platforms
		if kind == unix.S_IFREG || kind == unix.S_IFLNK {
			amount.Size += st.Size
		}
		return nil
	})
	return amount
}
