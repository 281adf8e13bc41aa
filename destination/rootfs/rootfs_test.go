package rootfs

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
)

// TestFilledMeanwhile: of two processes that fill a directory, the second says what the matter
// is, and leaves the files of the first.
func TestFilledMeanwhile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	d, err := Open(&destination.Env{References: 1}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.(*rootfs).path("root"), 0o755); err != nil { // as the layers do
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, fstest.MapFS{"other": &fstest.MapFile{}}); err != nil {
		t.Fatal(err)
	}
	err = d.Finish(t.Context())
	if fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "*", "*"))
	if err != nil || len(left) != 1 {
		t.Errorf("left: %q, %v", left, err)
	}
}
