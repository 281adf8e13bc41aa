package pull

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/decode"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
)

// Options says what to pull, and where to.
type Options struct {
	References []registry.Reference
	Source     source.Source
	// Open opens the destination. note is why it was chosen, "" if the user named it.
	Open func(ctx context.Context, env *destination.Env) (d destination.Destination, note string, err error)

	// Platform is searched for in an index. Nil is that of the destination.
	Platform *ocispec.Platform
	// Platforms are those that the destination takes of each image beside Platform, and
	// AllPlatforms that it takes every one. Both are for archives.
	Platforms    []ocispec.Platform
	AllPlatforms bool

	// DryRun only finds out what would be fetched, and from where. The destination stays
	// as it is, or is not made.
	DryRun bool
	// KeepGoing brings the other images when one fails.
	KeepGoing bool
	// Layers is how many layers are worked on at a time. 0 is one more than this machine
	// has cores, and 4 at least. No more goroutines than that decode.
	Layers int
	// Gzip chooses the decoder of gzip; "" is [decode.GzipAuto].
	Gzip decode.Gzip
	// CacheDir is the directory for partial blobs if the destination has none.
	// "" keeps none there.
	CacheDir string
	// NoResume keeps no blobs anywhere.
	NoResume bool
	// NoSync lets Run return while files are still on their way to the disk. After a power
	// failure images can be damaged then.
	NoSync bool
	// Progress shows what is going on; nil shows nothing.
	Progress *progress.Display
	// Chosen is called with the destination's name, and the note of Open, before work
	// begins. Nil is fine.
	Chosen func(name, note string)
	// Done is called with every image as it ends, one at a time: when it is complete at the
	// destination, or has failed. It is durable when Run returns. Nil is fine.
	Done func(Result)
}

// several reports whether the destination may take more than one platform of an image.
func (o *Options) several() bool { return o.AllPlatforms || len(o.Platforms) > 1 }

// Status is what became of an image.
type Status string

// What can become of an image.
const (
	Pulled  Status = "pulled"
	Exists  Status = "exists" // the destination had all of it
	Failed  Status = "failed"
	Planned Status = "planned" // of a dry run: it would be pulled
)

// Result is what became of one image.
type Result struct {
	Reference    string        `json:"reference"`
	Digest       digest.Digest `json:"digest,omitempty"`   // of what the reference names: a manifest or an index
	ImageID      digest.Digest `json:"imageID,omitempty"`  // of the config
	Platform     string        `json:"platform,omitempty"` // os/arch[/variant]
	From         string        `json:"from,omitempty"`     // the host that knew what the reference names
	Status       Status        `json:"status"`
	Error        string        `json:"error,omitempty"`
	Layers       int           `json:"layers"`
	BytesFetched int64         `json:"bytesFetched"` // of its layers; of those that images share by the one that fetched them
	Seconds      float64       `json:"seconds"`

	// Plan is what a dry run found out about the layers.
	Plan []PlannedLayer `json:"plan,omitempty"`

	Err  error         `json:"-"`
	Took time.Duration `json:"-"`
}

// Summary is what became of a run.
type Summary struct {
	Destination  string   `json:"destination"`
	Images       []Result `json:"images"`
	BytesFetched int64    `json:"bytesFetched"` // from registries, blobs
	BytesSent    int64    `json:"bytesSent"`    // to the Engine
	// BytesKept is how many bytes of blobs a run that failed has left on disk for the next.
	BytesKept int64 `json:"bytesKept,omitempty"`
	// Stays is an incomplete file that the next run continues.
	Stays string `json:"stays,omitempty"`
	// BytesToFetch is what a dry run would have fetched, blobs.
	BytesToFetch *int64  `json:"bytesToFetch,omitempty"`
	Seconds      float64 `json:"seconds"`
}
