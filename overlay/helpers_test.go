package overlay

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/unpack"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// children are what the test binary can do as another process.
var children = map[string]func(args []string) error{
	"commit":  childCommit,
	"hold":    childLock,
	"name":    childName,
	"flock":   childFlock,
	"remove":  childRemove,
	"mend":    childMend,
	"lists":   childLists,
	"publish": childPublish,
}

func TestMain(m *testing.M) {
	if what := os.Getenv("OVERLAY_TEST_CHILD"); what != "" {
		if err := children[what](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(need.RootMain("mount and chown", m.Run))
}

// child is another process that is at work until stop is called.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err bytes.Buffer
}

func start(t *testing.T, what string, args ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0], args...)}
	c.cmd.Env = append(os.Environ(), "OVERLAY_TEST_CHILD="+what)
	c.cmd.Stderr = &c.err
	in, err1 := c.cmd.StdinPipe()
	out, err2 := c.cmd.StdoutPipe()
	if err := errors.Join(err1, err2, c.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	c.in, c.out = in, bufio.NewReader(out)
	t.Cleanup(func() { c.cmd.Process.Kill(); c.cmd.Wait() })
	return c
}

// line waits for a line of the child's output.
func (c *child) line(t *testing.T) string {
	t.Helper()
	s, err := c.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the child is gone: %v %s", err, c.err.String())
	}
	return strings.TrimSpace(s)
}

// stop lets the child end by itself.
func (c *child) stop(t *testing.T) {
	t.Helper()
	c.in.Close()
	if err := c.cmd.Wait(); err != nil {
		t.Fatalf("child: %v %s", err, c.err.String())
	}
}

// kill ends it at once.
func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

func openTest(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// tarOf makes a tar with one file.
func tarOf(name, content string) []byte {
	return testkit.Tar(testkit.File{Header: tar.Header{Name: name, Format: tar.FormatGNU}, Content: content})
}

// begin starts a layer that holds the tar, and stops before the commit.
func begin(s *Store, parent digest.Digest, plain []byte) (*Staged, int64, error) {
	diffID := digest.FromBytes(plain)
	st, err := s.Begin(background, image.ChainID(parent, diffID), parent, diffID, nil)
	if err != nil {
		return nil, 0, err
	}
	size, err := fill(st, plain)
	return st, size, err
}

// fill extracts a tar.
func fill(st *Staged, plain []byte) (int64, error) {
	if err := st.Clear(); err != nil {
		return 0, err
	}
	stats, err := unpack.Extract(background, bytes.NewReader(plain), st.Dir(), unpack.ExtractOptions{
		Whiteouts: whiteout.Overlay{}, TarSplit: st.TarSplit(),
	})
	return stats.Size, err
}

// put commits a layer.
func put(s *Store, parent digest.Digest, plain []byte) (digest.Digest, error) {
	st, size, err := begin(s, parent, plain)
	if err != nil {
		return "", err
	}
	return image.ChainID(parent, digest.FromBytes(plain)), st.Commit(background, size)
}

// putChain commits layers on top of each other and returns their image. Layer n
// has a file of its own, and one that they all have.
func putChain(t *testing.T, s *Store, label string, n int) *image.Image {
	t.Helper()
	var parent digest.Digest
	var diffIDs []digest.Digest
	for i := range n {
		plain := tarOf(fmt.Sprintf("%s-%d", label, i+1), fmt.Sprintf("layer %d of %s", i+1, label))
		chain, err := put(s, parent, plain)
		if err != nil {
			t.Fatal(err)
		}
		parent = chain
		diffIDs = append(diffIDs, digest.FromBytes(plain))
	}
	return imageOf(t, label, diffIDs...)
}

func imageOf(t *testing.T, label string, diffIDs ...digest.Digest) *image.Image {
	t.Helper()
	config, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": "amd64", "author": label,
		"rootfs": map[string]any{"type": "layers", "diff_ids": append([]digest.Digest{}, diffIDs...)},
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Parse(config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// tree lists all that is below dir, with modes, in order.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		list = append(list, fmt.Sprintf("%s %s", info.Mode(), rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// read returns a file's content, or fails.
func read(t *testing.T, elem ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
