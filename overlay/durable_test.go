package overlay

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/testdisk"
)

// A layer whose files the disk has lost is not committed: the kernel takes the writes, and
// tells of the loss when they are waited for.
func TestCommitIsDurable(t *testing.T) {
	need.Time(t, "a disk that loses writes")
	for _, c := range []struct {
		name    string
		options Options
		ok      bool
	}{{"sync", Options{}, false}, {"no sync", Options{NoSync: true}, true}} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(t.Context(), filepath.Join(testdisk.Losing(t), "store"), c.options)
			if err != nil {
				t.Fatal(err)
			}
			diffID := digest.FromString("layer")
			st, err := s.Begin(t.Context(), diffID, "", diffID, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := st.Clear(); err != nil {
				t.Fatal(err)
			}
			content := make([]byte, 64<<20)
			rand.NewChaCha8([32]byte{}).Read(content)
			if err := os.WriteFile(filepath.Join(st.Dir(), "file"), content, 0o644); err != nil {
				t.Fatal(err)
			}
			err = st.Commit(t.Context(), int64(len(content)))
			if _, there := s.Layer(diffID); c.ok != (err == nil) || c.ok != (there == nil) {
				t.Errorf("commit: %v; then the layer: %v", err, there)
			}
			if !c.ok && (err == nil || !strings.Contains(err.Error(), "to the disk")) {
				t.Errorf("the error does not say what failed: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}
