package pull

import (
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/unpack"
)

// Kind is a kind of destination.
type Kind int

// The destinations of a run.
const (
	// Auto is the Docker Engine where one answers, and else the store.
	Auto Kind = iota
	Engine
	Store
	Archive
	RootFS
)

// Options says what to pull and where to.
type Options struct {
	References []registry.Reference
	Registry   *registry.Client
	// From is a bundle to take the images from, instead of a registry; References are
	// some of those that [Carried] returns.
	From *bundle.Reader
	// Platform is what an index is searched for. Nil is that of the
	// destination: the Engine's, or this machine's.
	Platform *ocispec.Platform

	Kind Kind
	// Path is the store, the archive or the directory; for Auto the store that
	// is taken when no Engine answers.
	Path string
	// Bundle says how an archive is made.
	Bundle BundleOptions
	// Host is the Engine's address, as in DOCKER_HOST; "" is what the
	// environment says.
	Host string

	// DryRun only finds out what would be fetched, and from where. The
	// destination stays as it is, or is not made.
	DryRun bool
	// KeepGoing does the other images when one fails.
	KeepGoing bool
	// Layers is how many layers are worked on at a time. 0 is one more than
	// this machine has cores, and 4 at least. No more goroutines than that decode.
	Layers int
	// Gzip chooses who decodes layers in gzip; "" is [unpack.GzipAuto].
	Gzip unpack.Gzip
	// TempDir is where layers wait for the Engine, as plain tars without a
	// name. "" is $TMPDIR, or /var/tmp.
	TempDir string
	// CacheDir is where blobs on their way are kept, for whoever goes on with them,
	// if the destination is not a store, which has a place for that. "" keeps none.
	CacheDir string
	// NoResume keeps no blobs anywhere.
	NoResume bool
	// NoSync lets Run return while files are still on their way to the disk. After
	// a power failure images can be damaged then.
	NoSync bool
	// Progress shows what is going on; nil shows nothing.
	Progress *progress.Display
	// Chosen is told the destination before work begins. Nil is fine.
	Chosen func(Destination)
	// Done is told of every image as it ends, one at a time: when it is at the
	// destination for good, or has failed. Nil is fine.
	Done func(Result)
}

// Destination is where images go in a run.
type Destination struct {
	Kind Kind
	Name string // for people
	Note string // why it was chosen, "" if it was asked for

	path string // of a store
}

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
	BytesFetched int64         `json:"bytesFetched"` // of its layers, by this image first
	Seconds      float64       `json:"seconds"`

	// Plan is what a dry run found out of the layers.
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
	// BytesToFetch is what a dry run would have fetched, blobs.
	BytesToFetch *int64  `json:"bytesToFetch,omitempty"`
	Seconds      float64 `json:"seconds"`
}
