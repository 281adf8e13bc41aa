package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/safepath"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// findPlace returns the place of a bundle. It looks at the names that it knows to be
// written to, so that a long run does not fail at its end.
func findPlace(name string) (*safepath.Place, error) {
	place, err := safepath.Find(name)
	if err != nil {
		return nil, err
	}
	if place.Type != 0 && place.Type != unix.S_IFREG {
		err = fault.WithHint(fault.New(fault.Usage, "it is there, and is not a file"), "name a file, which is replaced when the archive is complete")
	}
	for _, beside := range []string{ListName(place.Base), PartName(place.Base, 1)} {
		if err == nil {
			err = place.Replaceable(beside)
		}
	}
	if err != nil {
		return nil, errors.Join(err, place.Close())
	}
	return place, nil
}

// Publish gives the file or its parts their names. If list is not nil, it also writes the list
// of contents to a file beside them. It replaces or removes the list and the parts of an older
// bundle of that name. If several processes publish under one name, all files are of the last
// one.
func (f *File) Publish(ctx context.Context, list *List) error {
	beside, err := f.writeList(list)
	if err != nil {
		return err
	}
	if beside != nil {
		defer beside.Close()
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// A list that is missing is no harm, should the process be killed here; one of
	// another bundle is.
	if err := f.dropList(); err != nil {
		return err
	}
	if err := f.publishFiles(); err != nil {
		return err
	}
	if halfway != nil {
		halfway()
	}
	if beside != nil {
		return beside.Publish(ListName(f.place.Base))
	}
	return nil
}

// halfway is called in tests when the files have their names and the list does not.
var halfway func()

// writeList writes a list to a file that has no name yet; nil if there is no list.
func (f *File) writeList(list *List) (*tmpfile.File, error) {
	if list == nil {
		return nil, nil
	}
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return nil, err
	}
	t, err := tmpfile.New(f.place.Dir, 0o666)
	if err != nil {
		return nil, err
	}
	_, err = t.Write(append(data, '\n'))
	if err == nil && f.Sync {
		err = t.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// publishFiles gives the file or the parts their names. What else an older bundle of
// that name has is removed.
func (f *File) publishFiles() error {
	base := f.place.Base
	if f.Split == 0 {
		if err := f.parts[0].Publish(base); err != nil {
			return err
		}
		if err := f.removeParts(1); err != nil {
			return err
		}
		f.dropDraft()
		return nil
	}
	for i, p := range f.parts {
		if err := p.Publish(PartName(base, i+1)); err != nil {
			return err
		}
	}
	// A single file would be read instead of the parts.
	if err := f.remove(base); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.removeParts(len(f.parts) + 1)
}

// removeParts removes the parts of an older bundle, from the nth on.
func (f *File) removeParts(n int) error {
	for ; n <= MaxParts; n++ {
		err := f.remove(PartName(f.place.Base, n))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remove removes a file in the bundle's directory, if it may be replaced.
func (f *File) remove(base string) error {
	if err := f.place.Replaceable(base); err != nil {
		return err
	}
	return f.place.Remove(base)
}

// mostList is more bytes than any list has.
const mostList = 16 << 20

// dropList removes the list of an older bundle of this name.
func (f *File) dropList() error {
	name := ListName(f.place.Base)
	if f.place.Replaceable(name) != nil {
		return nil // it is another user's
	}
	file, err := f.place.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil // there is none, or what is there is no list
	}
	defer file.Close()
	var old List
	if st, err := file.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil
	}
	if json.NewDecoder(io.LimitReader(file, mostList)).Decode(&old) != nil || old.Bundle != f.place.Base || old.Index == "" {
		return nil
	}
	return f.remove(name)
}

// lockFor is how long Publish waits for other processes. Giving names takes milliseconds, but
// any user may lock a directory that they can read.
const lockFor = 10 * time.Second

// lock keeps other processes from publishing in the same directory. It gives up if the file
// system has no locks, or after lockFor: the bundle is worth more than the lock.
func (f *File) lock(ctx context.Context) (unlock func(), err error) {
	dir, err := f.place.OpenFile(".", os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return func() {}, nil
	}
	for begun := time.Now(); ; {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK && err != unix.EINTR || time.Since(begun) > lockFor {
			return func() { dir.Close() }, nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			dir.Close()
			return nil, context.Cause(ctx)
		}
	}
}
