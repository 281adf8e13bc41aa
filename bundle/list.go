package bundle

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// ListName is the name of the list that lies beside a bundle.
func ListName(name string) string { return name + ".json" }

// List is what lies beside a bundle as FILE.json, for people and programs that do
// not want to open it. The bundle is whole without it.
type List struct {
	Bundle  string        `json:"bundle"`          // the file's name, without its directory
	Parts   []string      `json:"parts,omitempty"` // the parts' names, if there are
	Size    int64         `json:"size"`            // bytes, of all parts
	Created time.Time     `json:"created"`         // when it was made; the bundle itself does not say
	Index   digest.Digest `json:"index"`           // of its index.json: equal for equal bundles
	Layers  string        `json:"layers"`          // plain, keep, gzip or zstd
	Since   digest.Digest `json:"since,omitempty"` // index of the bundle that has the layers which are left out
	Images  []ListImage   `json:"images"`          // in the bundle's order
	// Referrers are what refers to the images, in the bundle's order.
	Referrers []ListReferrer `json:"referrers,omitempty"`
}

// ListImage is an image, or one platform of it.
type ListImage struct {
	Name     string        `json:"name"`     // host:5000/img:tag
	Source   string        `json:"source"`   // name@digest that the registry had
	Platform string        `json:"platform"` // os/arch[/variant]
	Manifest digest.Digest `json:"manifest"` // in the bundle
	ImageID  digest.Digest `json:"imageID"`  // of the config, everywhere the same
	Layers   []ListLayer   `json:"layers"`   // the base first
}

// Reference returns the name of the image as [Entry.Reference] does.
func (i ListImage) Reference() string { return Entry{Name: i.Name, Source: i.Source}.Reference() }

// ListLayer is a layer of an image.
type ListLayer struct {
	Digest digest.Digest `json:"digest"` // in the bundle
	Size   int64         `json:"size"`   // in the bundle
	DiffID digest.Digest `json:"diffID"`
	Left   bool          `json:"left,omitempty"` // the layer is in the bundle that this one builds on
}

// ListReferrer is a signature, an SBOM or the like.
type ListReferrer struct {
	Manifest     digest.Digest `json:"manifest"`      // its own
	Subject      digest.Digest `json:"subject"`       // the manifest that it refers to
	ArtifactType string        `json:"artifactType"`  // a media type that says what it is
	Tag          string        `json:"tag,omitempty"` // by which cosign finds it
	Source       string        `json:"source"`        // repository@digest that it came from
	Size         int64         `json:"size"`          // bytes of its manifest and its blobs
}
