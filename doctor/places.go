package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/internal/tmpfile"
	"github.com/fastpull/fastpull/overlay"
)

// places tries where images could go, each in a temporary folder.
func places(ctx context.Context, e *exam) {
	rights := privilege.Current()
	temp := destination.TempDir()
	engine, err := e.docker(ctx)
	if err == nil {
		f := Finding{Area: Places, What: "Docker Engine (--load)", Level: OK,
			Text: "it takes plain layers, and is where images go if no other place is named; none was loaded for a test"}
		if werr := within1(ctx, func() error { return takesFile(temp) }); werr != nil {
			f.Level = Problem
			f.Text = fmt.Sprintf("layers wait for it in %s, which takes no file: %s", temp, plain(werr))
			f.Fix = []string{"fastpull --temp-dir DIR IMAGE   # a folder with room, that you may write to"}
		}
		e.found(f)
	} else {
		f := Finding{Area: Places, What: "Docker Engine (--load)", Level: Unknown, Text: "none that can be used answers, see engines"}
		if e.noEngine(err, os.Getenv("DOCKER_HOST") != "").Level == OK {
			f.Level, f.Text = OK, "there is none here"
		}
		e.found(f)
	}
	if e.Store != "" {
		e.found(e.storePlace(ctx, rights, engine != nil))
	}
	for _, p := range []struct {
		what string
		try  func(string) error
		text string
	}{
		{"bundle (-o)", takesFile, "files can be written, tried in " + temp},
		{"directory (--rootfs)", takesTree, "files, links and owners can be kept, tried in " + temp},
	} {
		f := Finding{Area: Places, What: p.what, Level: OK, Text: p.text}
		if err := within1(ctx, func() error { return p.try(temp) }); err != nil {
			f.Level, f.Text = Warning, fmt.Sprintf("cannot be written to %s: %s", temp, plain(err))
		} else if left := destination.WouldLeaveOut(rights); p.what != "bundle (-o)" && len(left) > 0 {
			f.Level = Warning
			f.Text = "works, tried in " + temp + ", but for what is left out: " + strings.Join(left, "; ")
		}
		e.found(f)
	}
}

// within1 is within for a look that has only an error to tell.
func within1(ctx context.Context, look func() error) error {
	_, err := within(ctx, diskTimeout, func() (struct{}, error) { return struct{}{}, look() })
	return err
}

// storePlace tries the store. If there is an Engine that images go to, it is no
// problem that there can be none.
func (e *exam) storePlace(ctx context.Context, rights privilege.Process, spare bool) Finding {
	f := Finding{Area: Places, What: "store (--store)", Level: OK}
	dir, err := filepath.Abs(e.Store)
	if err == nil {
		err = within1(ctx, func() error {
			if err := overlay.Usable(dir); err != nil {
				return err
			}
			return inScratch(nearest(dir), takesStore)
		})
	}
	if err != nil {
		f.Level = Problem
		if spare || errors.Is(err, os.ErrPermission) {
			f.Level = Warning
		}
		if f.Text = plain(err); !strings.Contains(f.Text, dir) {
			f.Text = dir + ": " + f.Text
		}
		return f
	}
	state := "is not there, and could be made"
	if _, err := os.Stat(dir); err == nil {
		state = "takes images"
	}
	f.Text = fmt.Sprintf("%s %s; one was opened beside it for a test", dir, state)
	if left := destination.WouldLeaveOut(rights); len(left) > 0 {
		f.Level = Warning
		f.Text += ", in a form that root's Docker does not read; left out are " + strings.Join(left, "; ")
	}
	return f
}

// takesStore opens a store in dir.
func takesStore(dir string) error {
	s, err := overlay.Open(filepath.Join(dir, "store"), overlay.Options{})
	if err != nil {
		return err
	}
	return s.Close()
}

// takesFile makes a file in dir that no run leaves behind.
func takesFile(dir string) error {
	f, err := tmpfile.Scratch(dir)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("x"))
	return errors.Join(err, f.Close())
}

// takesTree makes what an image has in a folder in parent.
func takesTree(parent string) error {
	return inScratch(parent, func(dir string) error {
		file := filepath.Join(dir, "file")
		return errors.Join(
			os.WriteFile(file, []byte("x"), 0o600),
			os.Symlink("file", filepath.Join(dir, "symlink")),
			os.Link(file, filepath.Join(dir, "hardlink")),
			os.Chown(file, os.Geteuid(), os.Getegid()),
		)
	})
}
