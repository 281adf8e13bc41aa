//go:build e2e

package destinations

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

var parityUpdate = flag.Bool("parity.update", false, "write the table in docs/parity.md")

const (
	parityDoc   = "../../docs/parity.md"
	parityBegin = "<!-- made by TestParity -->\n"
	parityEnd   = "<!-- end -->\n"
)

// What became of an image.
const (
	same    = "+" // it is there, with the files that fastpull's store has
	other   = "≠" // it is there, with other ones
	refused = "–"
)

// taker gets an image, and returns the files that it has of it; nil where they are not looked
// at. The error says why it has not got it.
type taker struct {
	name string
	take func(t *testing.T, ref string) (map[string]kit.Node, error)
}

// TestParity has fastpull, in all ways, Docker, Podman and containerd get images that are
// odd, compares the files, and what became of each with its row in docs/parity.md.
//
// In every run a few images are tried, by fastpull alone: what others do with them does not
// change. FASTPULL_PARITY is a regular expression for the names of those that all get; "." is
// for all of them.
func TestParity(t *testing.T) {
	t.Parallel()
	wanted := os.Getenv("FASTPULL_PARITY")
	if *parityUpdate && wanted == "" {
		wanted = "."
	}
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	takers := ours(t)
	if wanted != "" {
		takers = append(takers, theirs(t)...)
	}
	table := readParity(t, takers)
	for i, c := range parityCases() {
		if wanted == "" && !c.short || wanted != "" && !regexp.MustCompile(wanted).MatchString(c.name) {
			continue
		}
		repo := fmt.Sprintf("parity/%d", i)
		c.push(t, reg, repo)
		row := "| " + c.name + " |"
		var files map[string]kit.Node
		for n, k := range takers {
			got, err := k.take(t, reg.Addr+"/"+repo+":1")
			if n == 0 {
				files = got
			}
			became := same
			switch {
			case err != nil:
				became = refused
				t.Logf("%s: %s: %v", c.name, k.name, err)
			case got != nil && files != nil && !maps.EqualFunc(got, files, func(a, b kit.Node) bool { return maps.Equal(a, b) }):
				became = other
				t.Logf("%s: %s has other files:\n%s", c.name, k.name, strings.Join(kit.CompareNodes(got, files), "\n"))
			}
			row += " " + became + " |"
		}
		if wanted == "" {
			table.begins(t, c, row)
			continue
		}
		table.set(t, c, row+" "+c.why+" |\n")
	}
}

// parity is the table in the docs.
type parity struct {
	before, head, after string
	rows                map[string]string // by the name of the case
}

// readParity reads the table.
func readParity(t *testing.T, takers []taker) *parity {
	t.Helper()
	doc, err := os.ReadFile(parityDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(doc), parityBegin)
	text, after, ok2 := strings.Cut(rest, parityEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table, between %q and %q", parityDoc, parityBegin, parityEnd)
	}
	p := &parity{before: before, head: "| image |", after: after, rows: make(map[string]string)}
	for _, k := range takers {
		p.head += " " + k.name + " |"
	}
	p.head += " why |\n|" + strings.Repeat(" --- |", len(takers)+2) + "\n"
	for line := range strings.Lines(text) {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | "); ok {
			p.rows[name] = line
		}
	}
	return p
}

// text is the table as it should be: a row for each case, and no other.
func (p *parity) text() string {
	text := p.before + parityBegin + p.head
	for _, c := range parityCases() {
		text += p.rows[c.name]
	}
	return text + parityEnd + p.after
}

// begins compares the beginning of the row of a case with the one in the docs.
func (p *parity) begins(t *testing.T, c parityCase, row string) {
	t.Helper()
	if had := p.rows[c.name]; !strings.HasPrefix(had, row) {
		t.Errorf("%s is not what is tested:\n had %sgot %s", parityDoc, had, row)
	}
}

// set compares the row of a case with the one in the docs, or writes it.
func (p *parity) set(t *testing.T, c parityCase, row string) {
	t.Helper()
	if had := p.rows[c.name]; had == row {
		return
	} else if !*parityUpdate {
		t.Errorf("%s is not what is tested; write it by: go test -tags e2e ./e2e/destinations -run TestParity -parity.update\n had %sgot %s", parityDoc, had, row)
		return
	}
	p.rows[c.name] = row
	if err := os.WriteFile(parityDoc, []byte(p.text()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestParityTable has a row in the docs for each case, and no other.
func TestParityTable(t *testing.T) {
	var names []string
	p := readParity(t, nil)
	for _, c := range parityCases() {
		names = append(names, c.name)
		if row := p.rows[c.name]; !strings.HasSuffix(row, " "+c.why+" |\n") {
			t.Errorf("%s: the row of %q is %q", parityDoc, c.name, row)
		}
	}
	for name := range p.rows {
		if !slices.Contains(names, name) && name != "image" && !strings.HasPrefix(name, "---") {
			t.Errorf("%s has a row for %q, which is not tried", parityDoc, name)
		}
	}
}

// filesBelow reads what a directory has: names, types, modes, owners, link targets,
// attributes and contents. The directory itself is left out: no layer names it.
func filesBelow(t *testing.T, dir string) map[string]kit.Node {
	t.Helper()
	files := kit.ReadTree(t, dir, kit.TreeOptions{NoTimes: true, NoLinkCounts: true,
		Xattr: func(name string) bool {
			return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
		}})
	delete(files, ".")
	return files
}

// mostMerged is of how many layers the kernel takes the names in the options of a mount.
const mostMerged = 20

// merged reads an image from the directories of its layers, the base first.
func merged(t *testing.T, layers []string) map[string]kit.Node {
	t.Helper()
	if len(layers) > mostMerged {
		return nil
	}
	lowers := append([]string{t.TempDir()}, layers...)
	slices.Reverse(lowers)
	point := t.TempDir()
	defer kit.UnmountBelow(t, point)
	kit.Run(t, "mount", "-t", "overlay", "-o", "ro,lowerdir="+strings.Join(lowers, ":"), "overlay", point)
	return filesBelow(t, point)
}

// attempt runs a program, and returns what it prints, or an error with its last words.
func attempt(cmd *exec.Cmd) (string, error) {
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
		return "", fmt.Errorf("%w: %s", err, lines[len(lines)-1])
	}
	return strings.TrimSpace(string(out)), nil
}

// byFastpull runs fastpull, whose exit code may be any.
func byFastpull(t *testing.T, u *kit.User, args ...string) error {
	t.Helper()
	r := u.Fastpull(t, args...)
	if r.Code != 0 {
		return fmt.Errorf("exit code %d: %s", r.Code, strings.TrimSpace(r.Stderr))
	}
	return nil
}

// ours are the ways of fastpull, by their flags. The first is what all are compared with.
func ours(t *testing.T) []taker {
	d, c, p := kit.StartDockerd(t, kit.DockerdOptions{}), kit.StartContainerd(t, kit.ContainerdOptions{}), newPodman(t)
	return []taker{
		{"`--store`", func(t *testing.T, ref string) (map[string]kit.Node, error) {
			store := filepath.Join(t.TempDir(), "store")
			if err := byFastpull(t, kit.NewUser(t), "--store", store, ref); err != nil {
				return nil, err
			}
			kit.Fastpull(t, "verify", "--store", store).Expect(t, 0)
			point := kit.MountImage(t, store, ref)
			defer kit.UnmountBelow(t, point)
			return filesBelow(t, point), nil
		}},
		{"`--rootfs`", func(t *testing.T, ref string) (map[string]kit.Node, error) {
			dir := filepath.Join(t.TempDir(), "root")
			if err := byFastpull(t, kit.NewUser(t), "--rootfs", dir, ref); err != nil {
				return nil, err
			}
			return filesBelow(t, dir), nil
		}},
		{"`bundle`", func(t *testing.T, ref string) (map[string]kit.Node, error) {
			file := filepath.Join(t.TempDir(), "b.tar")
			if err := byFastpull(t, kit.NewUser(t), "bundle", "-o", file, ref); err != nil {
				return nil, err
			}
			kit.Fastpull(t, "verify", file).Expect(t, 0)
			if r := d.Docker(t, "load", "-i", file); r.Code != 0 {
				return nil, fmt.Errorf("docker load: %s", r.Stderr)
			}
			return inDocker(t, d, ref), nil
		}},
		{"`--load`", func(t *testing.T, ref string) (map[string]kit.Node, error) {
			if err := byFastpull(t, d.User(t), "--load", ref); err != nil {
				return nil, err
			}
			return inDocker(t, d, ref), nil
		}},
		{"`--containerd`", func(t *testing.T, ref string) (map[string]kit.Node, error) {
			if err := byFastpull(t, c.User(t), "--containerd", ref); err != nil {
				return nil, err
			}
			return inContainerd(t, c, ref), nil
		}},
		{"`--podman`", func(t *testing.T, ref string) (map[string]kit.Node, error) {
			if err := byFastpull(t, kit.NewUser(t), "--podman="+p.root, ref); err != nil {
				return nil, err
			}
			return p.files(t, ref), nil
		}},
	}
}

// inDocker reads an image in an Engine with overlay2, and removes it.
func inDocker(t *testing.T, d *kit.Dockerd, ref string) map[string]kit.Node {
	t.Helper()
	data := d.Must(t, "image", "inspect", "--format", "{{.GraphDriver.Data.LowerDir}}:{{.GraphDriver.Data.UpperDir}}", ref)
	lower, upper, _ := cutLast(data, ":")
	var layers []string
	if lower != "<no value>" {
		layers = strings.Split(lower, ":")
		slices.Reverse(layers)
	}
	files := merged(t, append(layers, upper))
	d.Must(t, "rmi", "-f", ref)
	return files
}

// inContainerd reads an image in containerd, and removes it with its layers: containerd unpacks
// no layer that it has.
func inContainerd(t *testing.T, c *kit.Containerd, ref string) map[string]kit.Node {
	t.Helper()
	point := t.TempDir()
	c.Ctr(t, "images", "mount", ref, point)
	files := filesBelow(t, point)
	c.Ctr(t, "images", "unmount", "--rm", point)
	c.Ctr(t, "images", "rm", "--sync", ref)
	if left := c.Lines(t, "snapshots", "ls"); len(left) > 0 {
		t.Fatalf("containerd has snapshots without an image: %q", left)
	}
	return files
}

// podman is a store of Podman's, with the storage driver overlay.
type podman struct{ root, run string }

func newPodman(t *testing.T) podman {
	t.Helper()
	dir := kit.ShortTempDir(t)
	t.Cleanup(func() { kit.UnmountBelow(t, dir) })
	return podman{filepath.Join(dir, "root"), filepath.Join(dir, "run")}
}

// command is a podman that uses the store.
func (p podman) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(t.Context(), "podman", append([]string{"--root", p.root, "--runroot", p.run, "--storage-driver", "overlay"}, args...)...)
}

// files reads an image in the store, and removes it.
func (p podman) files(t *testing.T, ref string) map[string]kit.Node {
	t.Helper()
	must := func(args ...string) string {
		out, err := attempt(p.command(t, args...))
		if err != nil {
			t.Fatalf("podman %q: %v", args, err)
		}
		return out
	}
	files := filesBelow(t, must("image", "mount", ref))
	must("image", "unmount", ref)
	must("rmi", "-f", ref)
	if left := must("images", "-aq"); left != "" {
		t.Fatalf("podman rmi leaves %q", left)
	}
	return files
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
