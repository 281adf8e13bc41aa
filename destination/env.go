package destination

import (
	"sync/atomic"

	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/internal/nameset"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/source"
)

// Env has the things that a run gives to its destination.
type Env struct {
	// Source is where the images come from.
	Source source.Source
	// Progress shows what is going on; nil shows nothing.
	Progress *progress.Display
	// DryRun is set if Begin will not be called. Nothing may be changed.
	DryRun bool
	// NoSync lets Commit and Finish return while files are still on their way to the disk.
	NoSync bool
	// NoResume leaves nothing that a later run could continue with.
	NoResume bool
	// References is how many images the run has.
	References int
	// Rights are those of the process.
	Rights privilege.Process
	// Names bounds the memory for the names of entries, of all layers of the run.
	Names *nameset.Budget
	// LeftOut counts what could not be kept of files.
	LeftOut *LeftOut
	// Sent counts the bytes that are sent to an engine.
	Sent *atomic.Int64
	// Draft is set by Close to what the next run of the same destination continues.
	Draft Draft
}

// Draft is an incomplete file of a run that failed. The zero value is none.
type Draft struct {
	File  string
	Bytes int64 // on disk
}

// Rootless reports whether files are made only as far as the kernel allows it. For root
// with all rights a refusal is an error.
func (e *Env) Rootless() bool { return e.Rights.Level != privilege.Full }

// Flusher returns what waits for the file system of dir, nil if the user does without.
func (e *Env) Flusher(dir string) (*disk.Flusher, error) {
	if e.NoSync {
		return nil, nil
	}
	return disk.NewFlusher(dir, e.Progress)
}
