package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/fastpull/fastpull/fault"
)

// blobFolder is where the registry of the demonstration has its blobs.
const blobFolder = "registry"

// demo is a demonstration.
type demo struct {
	sh     shell
	image  string // to be pulled, "" for the sample image
	dir    string // where the working folder is to be, "" for anywhere
	keep   bool   // leave it there
	root   bool   // may mount
	goroot string // what the sample image is made of, "" for this machine's
}

// run does all steps. Whatever happens, nothing is left when it returns, but for
// what keep asks for.
func (d *demo) run(ctx context.Context) (err error) {
	if err := d.sh.find(); err != nil {
		return err
	}
	w, err := newWork(d.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cleanUp(w, err != nil)) }()
	d.sh.say("All of this happens in %s.", w.dir)

	name := d.image
	if name == "" {
		var stop func()
		if name, stop, err = d.offer(ctx, w); err != nil {
			return err
		}
		defer stop()
	}
	return d.steps(ctx, w, name)
}

func (d *demo) steps(ctx context.Context, w *work, name string) error {
	store := w.path("store")
	d.sh.title("Pull it into a store")
	if _, err := d.sh.fastpull(ctx, "--store", store, name); err != nil {
		return err
	}
	d.sh.title("What is in the store?")
	if _, err := d.sh.fastpull(ctx, "images", "--store", store); err != nil {
		return err
	}
	if _, err := d.sh.fastpull(ctx, "inspect", "--store", store, name); err != nil {
		return err
	}
	var err error
	if d.root {
		err = d.mount(ctx, w, store, name)
	} else {
		err = d.extract(ctx, w, name)
	}
	if err != nil {
		return err
	}
	return d.again(ctx, store, name)
}

// mount looks at the image where it is.
func (d *demo) mount(ctx context.Context, w *work, store, name string) error {
	d.sh.title("Mount it, and read it")
	dir := w.mountPoint()
	d.sh.say("$ mkdir %s", quote(dir))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if _, err := d.sh.fastpull(ctx, "mount", "--store", store, name, dir); err != nil {
		return err
	}
	if err := d.readBack(ctx, dir); err != nil {
		return err
	}
	_, err := d.sh.fastpull(ctx, "umount", dir)
	return err
}

// extract looks at the image as one directory, which needs no root.
func (d *demo) extract(ctx context.Context, w *work, name string) error {
	d.sh.title("To mount it one has to be root. But it can be had as a plain directory, and be read there")
	dir := w.path("rootfs")
	if _, err := d.sh.fastpull(ctx, "--rootfs", dir, name); err != nil {
		return err
	}
	return d.readBack(ctx, dir)
}

// again pulls the image a second time, of which nothing may be fetched.
func (d *demo) again(ctx context.Context, store, name string) error {
	d.sh.title("Pull it once more: the store has it, so no layer is fetched")
	out, err := d.sh.fastpull(ctx, "--store", store, "--json", name)
	if err != nil {
		return err
	}
	var sum struct {
		Images []struct {
			Status       string
			BytesFetched int64
		}
	}
	if err := json.Unmarshal([]byte(out), &sum); err != nil {
		return fault.New(fault.Corrupt, "read the summary of fastpull: %w", err)
	}
	if len(sum.Images) != 1 || sum.Images[0].Status != "exists" || sum.Images[0].BytesFetched != 0 {
		return fmt.Errorf("the second pull did not find the image in the store: %+v", sum.Images)
	}
	return nil
}

// cleanUp removes what was made, and says what was not.
func (d *demo) cleanUp(w *work, failed bool) error {
	if !d.keep {
		err := w.remove()
		if err == nil {
			d.sh.say("\n%s is removed.", w.dir)
		}
		return err
	}
	err := w.remove(blobFolder)
	what := "The store stays"
	if failed {
		what = "What there is of a store stays"
	}
	d.sh.say("\n%s at %s; rm -rf %s removes it.", what, w.path("store"), w.dir)
	return err
}
