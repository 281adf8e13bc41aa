package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/testkit"
)

// TestUnracedWorst measures what it takes to make the tar of a layer again whose names are long and
// become no files, as hidden whiteouts do. The names have 117 MB.
func TestUnracedWorst(t *testing.T) {
	need.NoDetector(t)
	need.Time(t, "the worst inputs")
	testkit.ExpectPeak(t, 60, func(testing.TB) error { return tarOfLongNames(30_000) })
}

// tarOfLongNames proves and indexes a layer whose n names have 3,900 bytes each.
func tarOfLongNames(n int) (err error) {
	dir, err := os.MkdirTemp("", "worst")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := Open(context.Background(), dir, Options{NoSync: true})
	if err != nil {
		return err
	}
	defer s.Close()
	id := digest.FromString("the tar")
	chain := image.ChainID("", id)
	st, err := s.Begin(context.Background(), chain, "", id, nil)
	if err != nil {
		return err
	}
	if err := st.Clear(); err != nil {
		return err
	}
	split := st.TarSplit()
	fmt.Fprintf(split, `{"type":2,"payload":"dGhlIHRhcg==","position":0}`+"\n")
	for i, parent := 1, strings.Repeat("directory/", 389); i <= n && err == nil; i++ {
		_, err = fmt.Fprintf(split, `{"type":1,"name":"%s.wh.%d","payload":null,"position":%d}`+"\n", parent, i, i)
	}
	if err := errors.Join(err, st.Seal()); err != nil {
		return err
	}
	if err := st.Prove(context.Background()); err != nil {
		return err
	}
	if err := st.Commit(context.Background(), 0); err != nil {
		return err
	}
	l, err := s.Layer(chain)
	if err != nil {
		return err
	}
	_, err = s.IndexTar(context.Background(), l, io.Discard)
	return err
}
