package image

import (
	"encoding/json"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
)

// MaxLayers is how many layers an image may have in Docker's layer store
// (maxLayerDepth in moby's layer package).
const MaxLayers = 125

// CheckLayers returns an error if an image has more layers than Docker's layer store
// takes.
func CheckLayers(img *Image) error {
	if n := len(img.Layers); n > MaxLayers {
		return unfit("the image has %d layers, Docker's overlay2 takes at most %d", n, MaxLayers)
	}
	return nil
}

// CheckDocker returns an error if Docker must not get an image: by its image store, or by an
// Engine that has one. A dockerd reads all configs of its store when it starts. It hides
// images whose config it cannot read, and crashes at some that it can.
//
// The rules are those by which docker pull refuses an image, in moby 19.03 to 29
// (image/store.go, distribution/pull_v2.go). Those of Docker 29 alone are in [CheckDocker29].
// One rule is stricter. Docker takes "Linux" for linux, and stores the image. Up to version
// 20.10 it then looks for its layers among those of another system, and never starts again.
func CheckDocker(img *Image) error {
	if err := CheckLayers(img); err != nil {
		return err
	}
	var c dockerImage
	if err := json.Unmarshal(img.Config, &c); err != nil {
		return unfit("Docker cannot read the image's config: %w", err)
	}
	if c.RootFS == nil {
		return unfit("Docker cannot read the image's config: it has no rootfs")
	}
	if c.OS != "" && c.OS != "linux" {
		return unfit(`the image's config has the system %.40q, which keeps a dockerd from starting: it has to be "linux"`, c.OS)
	}
	made := 0
	for _, h := range c.History {
		if !h.EmptyLayer {
			made++
		}
	}
	if made > len(c.RootFS.DiffIDs) {
		return unfit("the image's config has a history of %d layers, and %d layers", made, len(c.RootFS.DiffIDs))
	}
	for _, l := range img.Layers {
		if a := l.DiffID.Algorithm(); a != digest.SHA256 {
			return unfit("the image's config names a layer by %s: Docker knows them by sha256", a)
		}
	}
	return nil
}

// CheckDocker29 returns an error if Docker 29, and no earlier one, cannot read the
// config of an image. Such an image can be in Docker's store, but Docker 29 does not
// show it: it parses ports, and takes no text for a list of words.
func CheckDocker29(img *Image) error {
	var c struct {
		Config          *container.Config `json:"config"`
		ContainerConfig container.Config  `json:"container_config"`
	}
	return json.Unmarshal(img.Config, &c)
}

func unfit(format string, args ...any) error {
	return fault.WithHint(fault.New(fault.Failed, format, args...),
		"--rootfs and fastpull bundle take it; for Docker it has to be built again")
}

// dockerImage has what Docker decodes of an image's config (image.Image in moby 20.10),
// with the types that it decodes to.
type dockerImage struct {
	ID              string     `json:"id"`
	Parent          string     `json:"parent"`
	Comment         string     `json:"comment"`
	Created         time.Time  `json:"created"`
	Container       string     `json:"container"`
	ContainerConfig dockerRun  `json:"container_config"`
	DockerVersion   string     `json:"docker_version"`
	Author          string     `json:"author"`
	Config          *dockerRun `json:"config"`
	Architecture    string     `json:"architecture"`
	Variant         string     `json:"variant"`
	OS              string     `json:"os"`
	OSVersion       string     `json:"os.version"`
	OSFeatures      []string   `json:"os.features"`
	Size            int64      `json:"Size"`
	RootFS          *struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []struct {
		Created    time.Time `json:"created"`
		Author     string    `json:"author"`
		CreatedBy  string    `json:"created_by"`
		Comment    string    `json:"comment"`
		EmptyLayer bool      `json:"empty_layer"`
	} `json:"history"`
}

// dockerRun is the part of a config that a container gets (container.Config in moby 20.10).
type dockerRun struct {
	Hostname, Domainname, User              string
	AttachStdin, AttachStdout, AttachStderr bool
	ExposedPorts                            map[string]struct{}
	Tty, OpenStdin, StdinOnce               bool
	Env                                     []string
	Cmd                                     words
	Healthcheck                             *struct {
		Test                           []string
		Interval, Timeout, StartPeriod time.Duration
		Retries                        int
	}
	ArgsEscaped     bool
	Image           string
	Volumes         map[string]struct{}
	WorkingDir      string
	Entrypoint      words
	NetworkDisabled bool
	MacAddress      string
	OnBuild         []string
	Labels          map[string]string
	StopSignal      string
	StopTimeout     *int
	Shell           words
}

// words is a list of words, or a text.
type words []string

// UnmarshalJSON implements [json.Unmarshaler].
func (w *words) UnmarshalJSON(b []byte) error {
	var list []string
	err := json.Unmarshal(b, &list)
	if err == nil {
		*w = list
		return nil
	}
	var text string
	if json.Unmarshal(b, &text) != nil {
		return err
	}
	*w = words{text}
	return nil
}
