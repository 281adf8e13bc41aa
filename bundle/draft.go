package bundle

import (
	"bytes"
	"os"

	"github.com/fastpull/fastpull/internal/partial"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// DraftSuffix is the suffix of a draft, after the name of the bundle.
const DraftSuffix = ".fastpull-partial"

// minDraft is how many bytes a draft must have to stay for the next run.
const minDraft = 1 << 20

// resume makes f a draft, or continues with an existing one. If that is not possible, for
// example since another process has the draft, f has no name, and an interrupted run begins
// again.
func (f *File) resume() {
	t, err := tmpfile.Resume(f.place.Dir, f.place.Base+DraftSuffix, 0o666)
	if err != nil {
		return
	}
	if !isDraft(t.File) {
		t.Leave()
		t.Close()
		return
	}
	f.parts, f.draft = []*tmpfile.File{t}, true
}

// isDraft reports whether a file is empty, or begins with a complete or partial blob.
func isDraft(file *os.File) bool {
	var block [blockSize]byte
	n, _ := file.ReadAt(block[:], 0)
	return n == 0 || n == blockSize && (partial.IsRecord(block[:]) ||
		bytes.HasPrefix(block[:], []byte(blobsDir)) || bytes.HasPrefix(block[:], []byte(longName)))
}

// reserve extends the file to end, where writing goes on. Bytes that are there stay.
func (f *File) reserve(end int64) error {
	t := f.parts[0]
	st, err := t.Stat()
	if err == nil && st.Size() < end {
		err = t.Truncate(end)
	}
	if err == nil {
		_, err = t.Seek(end, 0)
		f.off = end
	}
	return err
}

// leaveDraft keeps a draft when it is closed, if it has content.
func (f *File) leaveDraft() error {
	f.draft = false
	used, err := f.parts[0].Used()
	n := max(used, f.wrote.Load()) // some file systems are slow to tell
	if err == nil && n >= minDraft {
		f.parts[0].Leave()
		f.left, f.leftBytes = f.Name()+DraftSuffix, n
	}
	return err
}

// dropDraft removes a draft that is no longer needed, since the bundle is complete.
func (f *File) dropDraft() {
	if f.draft {
		f.draft = false // it has got its name
		return
	}
	_, _ = tmpfile.Left(f.place.Dir, f.place.Base+DraftSuffix, isDraft) // a draft that stays does no harm
}

// Left returns the name of the draft that stayed when the file was closed, and how many bytes it
// has on disk. The name is "" if none stayed.
func (f *File) Left() (name string, bytes int64) { return f.left, f.leftBytes }
