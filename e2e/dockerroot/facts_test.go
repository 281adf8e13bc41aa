//go:build e2e

package dockerroot

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/fastpull/fastpull/e2e/kit"
)

// facts is what the rows of known_test.go want to know of a layer, or of the
// layers of an image. All paths are those of the files themselves: where a name
// leads through symlinks, this is where it leads.
type facts struct {
	got, want map[string]kit.Node // the two trees

	dirs      map[string]bool // have an entry as a directory
	implied   map[string]bool // are directories above entries, in a layer without an entry of their own
	whited    map[string]bool // have a whiteout
	devices00 map[string]bool // are character devices 0:0 in the tar
	opaque    map[string]bool // are made opaque
	overlay   map[string]bool // carry an attribute of overlayfs in the tar
	retold    map[string]bool // hardlinks and their targets: whether the headers differ
	aufs      bool            // has something of AUFS' own
	moved     map[string]bool // are directories of an entry whose name leads through a symlink
	through   bool            // has an entry below a symlink of a lower layer
}

// factsOf reads the tars of the layers. The symlinks on a name's way are looked
// up in root, in which the layers have been unpacked.
func factsOf(root string, layers ...kit.Layer) *facts {
	f := &facts{dirs: map[string]bool{}, implied: map[string]bool{}, whited: map[string]bool{}, devices00: map[string]bool{},
		opaque: map[string]bool{}, overlay: map[string]bool{}, retold: map[string]bool{}, moved: map[string]bool{}}
	lowerLinks := map[string]bool{}
	for _, l := range layers {
		headers := map[string]*tar.Header{}
		links := map[string]bool{}
		for r := tar.NewReader(bytes.NewReader(l.Plain)); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				panic(err) // kit.MakeLayer has written it
			}
			f.add(root, h, headers)
			for _, name := range []string{resolve(root, h.Name), strings.TrimPrefix(path.Clean("/"+h.Name), "/")} {
				if h.Typeflag == tar.TypeSymlink {
					links[name] = true
				}
				f.through = f.through || goesThrough(lowerLinks, name)
			}
		}
		maps.Copy(lowerLinks, links)
		for name := range headers {
			for name = path.Dir(name); name != "."; name = path.Dir(name) {
				if h := headers[name]; h == nil || h.Typeflag != tar.TypeDir {
					f.implied[name] = true
				}
			}
		}
	}
	return f
}

func (f *facts) add(root string, h *tar.Header, headers map[string]*tar.Header) {
	name := resolve(root, h.Name)
	parent, base := path.Dir(name), path.Base(name)
	headers[name] = h
	switch {
	case base == ".wh..wh..opq":
		f.opaque[parent] = true
	case strings.HasPrefix(base, ".wh..wh.") || strings.HasPrefix(name, ".wh..wh."):
		f.aufs = true
	case strings.HasPrefix(base, ".wh."):
		f.whited[path.Join(parent, strings.TrimPrefix(base, ".wh."))] = true
	case h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0:
		f.whited[name], f.devices00[name] = true, true
	case h.Typeflag == tar.TypeDir:
		f.dirs[name] = true
		f.moved[name] = f.moved[name] || name != strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	case h.Typeflag == tar.TypeLink:
		target := resolve(root, h.Linkname)
		differs := !sameMeta(h, headers[target])
		// The target too, whatever becomes of this name.
		f.retold[name], f.retold[target] = differs, differs || f.retold[target]
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.trusted.overlay.") {
			f.overlay[name] = true
		}
	}
}

func sameMeta(a, b *tar.Header) bool {
	if b == nil {
		return false
	}
	say := func(h *tar.Header) string {
		return fmt.Sprint(h.Mode, h.Uid, h.Gid, h.ModTime.UnixNano(), h.PAXRecords["SCHILY.xattr.user.a"],
			h.PAXRecords["SCHILY.xattr.user.b"], h.PAXRecords["SCHILY.xattr.security.capability"])
	}
	return say(a) == say(b)
}

// hardlinkApplied reports whether a difference comes from applying the metadata in
// the header of a hardlink: what it says may differ from what the file's says,
// and chown clears bits of the mode even if it does not.
func (f *facts) hardlinkApplied(d kit.Difference) bool {
	if d.Attr != "mode" && d.Attr != "owner" && d.Attr != "mtime" && !strings.HasPrefix(d.Attr, "xattr ") {
		return false
	}
	var got, want uint32
	fmt.Sscanf(d.Got, "%o", &got)
	fmt.Sscanf(d.Want, "%o", &want)
	cleared := d.Attr == "mode" && got&^0o6000 == want
	for name, differs := range f.retold {
		if (differs || cleared) && (name == d.Path || f.sameFile(f.want, name, d.Path) || f.sameFile(f.got, name, d.Path)) {
			return true
		}
	}
	return false
}

func (f *facts) sameFile(tree map[string]kit.Node, a, b string) bool {
	id := tree[a]["same file as"]
	return id != "" && id == tree[b]["same file as"]
}

// belowOpaque reports whether one of the directories above name is opaque.
func (f *facts) belowOpaque(name string) bool {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if f.opaque[dir] || f.got[dir][opaqueAttr] != "" {
			return true
		}
		if dir == "." {
			return false
		}
	}
}

// goesThrough reports whether the name is below a symlink of a lower layer.
func goesThrough(lowerLinks map[string]bool, name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if lowerLinks[dir] {
			return true
		}
	}
	return false
}

// resolve gives the path of the file itself: symlinks in what stands before the
// last element are followed inside of root.
func resolve(root, name string) string {
	at := "."
	rest := strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	for links := 0; len(rest) > 0; {
		next := path.Join(at, rest[0])
		rest = rest[1:]
		if strings.HasPrefix(next, "..") {
			next = "."
		}
		target, err := os.Readlink(filepath.Join(root, next))
		if len(rest) == 0 || err != nil || links == 40 {
			at = next
			continue
		}
		links++
		if strings.HasPrefix(target, "/") {
			at = "."
		}
		rest = append(strings.Split(strings.Trim(target, "/"), "/"), rest...)
	}
	return at
}
