package dockerroot

import (
	"os"
	"path/filepath"

	"github.com/fastpull/fastpull/fault"
)

// elsewhere returns an error for a data-root whose Docker has its images in containerd. It
// would turn to overlay2 if that were there, and no longer show them.
func elsewhere(dataRoot string) error {
	if _, err := os.Stat(filepath.Join(dataRoot, "containerd/daemon/io.containerd.metadata.v1.bolt/meta.db")); err != nil {
		return nil
	}
	if entries, _ := os.ReadDir(filepath.Join(dataRoot, "overlay2")); len(entries) > 0 {
		return nil // this Docker only has its containers in containerd
	}
	return fault.WithHint(fault.New(fault.Usage, "the Docker of the data-root %s has its images in containerd", dataRoot),
		"fastpull --docker-root DIR puts them there while it does not run, and --load while it does")
}
