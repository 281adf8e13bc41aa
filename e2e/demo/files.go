package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fastpull/fastpull/fault"
)

// readBack reads the image's files in dir. Those of the sample image are
// compared with what they were made of.
func (d *demo) readBack(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir) // symlinks of an image do not lead out of it
	if err != nil {
		return fmt.Errorf("read the image back: %w", err)
	}
	defer root.Close()
	if d.image != "" {
		return d.readFirst(ctx, root)
	}
	text, err := root.ReadFile(greetingFile)
	if err != nil {
		return fmt.Errorf("read the image back: %w", err)
	}
	if string(text) != greeting {
		return fault.New(fault.Corrupt, "read the image back: %s says %q", greetingFile, text)
	}
	d.sh.say("/%s says: %s", greetingFile, text[:len(text)-1])

	name, err := biggest(ctx, d.goroot)
	if err != nil {
		return fmt.Errorf("look for a file of the toolchain: %w", err)
	}
	want, err := hashOf(os.Open(filepath.Join(d.goroot, name)))
	if err != nil {
		return fmt.Errorf("read the original: %w", err)
	}
	got, err := hashOf(root.Open(filepath.Join(inImage, name)))
	if err != nil {
		return fmt.Errorf("read the image back: %w", err)
	}
	if got != want {
		return fault.New(fault.Corrupt, "read the image back: /%s/%s has sha256 %s, the original %s", inImage, name, got, want)
	}
	d.sh.say("/%s/%s has the sha256 of the original:\n%s", inImage, name, got)
	return nil
}

// readFirst reads one file of an image of which nothing is known.
func (d *demo) readFirst(ctx context.Context, root *os.Root) error {
	found := errors.New("found")
	err := fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		sum, err := hashOf(root.Open(name))
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		d.sh.say("/%s has sha256\n%s", name, sum)
		return found
	})
	if err == nil {
		return fault.New(fault.NotFound, "read the image back: there is no file in it")
	}
	if err != found {
		return fmt.Errorf("read the image back: %w", err)
	}
	return nil
}

// biggest names the biggest file of bin in a toolchain, relative to it: go
// itself, as a rule.
func biggest(ctx context.Context, goroot string) (string, error) {
	var name string
	var size int64 = -1
	err := filepath.WalkDir(filepath.Join(goroot, "bin"), func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		st, err := e.Info()
		if err == nil && st.Size() > size {
			size = st.Size()
			name, err = filepath.Rel(goroot, path)
		}
		return err
	})
	if err == nil && name == "" {
		err = fs.ErrNotExist
	}
	return name, err
}

// hashOf hashes a file, given as the results of opening it, and closes it.
func hashOf(f *os.File, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}
