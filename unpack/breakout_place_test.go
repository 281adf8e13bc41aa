package unpack

import (
	"path"
	"slices"
	"strings"
)

// put gives the entries of a case the place that they are for.
func put(outside string, entries []entry) []entry {
	placed := slices.Clone(entries)
	for i := range placed {
		placed[i].name = strings.ReplaceAll(placed[i].name, out, outside)
		placed[i].link = strings.ReplaceAll(placed[i].link, out, outside)
	}
	return placed
}

// within does the same for a tree. The directories that lead to such a place
// inside the root are nobody's entries, and need not be named.
func within(outside string, want []string) (lines []string) {
	for _, line := range want {
		if before, _, ok := strings.Cut(line, out[1:]+"/"); ok && !strings.Contains(before, ":") {
			for dir := outside[1:]; dir != "."; dir = path.Dir(dir) {
				lines = append(lines, before+dir+": "+dir755)
			}
		}
	}
	plain := strings.NewReplacer(out, outside, out[1:]+"/", outside[1:]+"/")
	for _, line := range want { // after those, if one says more of such a directory
		lines = append(lines, plain.Replace(line))
	}
	return lines
}

// repeats reports whether a layer has a path twice.
func repeats(layer []entry) bool {
	seen := make(map[string]bool)
	for _, e := range layer {
		name := path.Clean(e.name)
		if seen[name] {
			return true
		}
		seen[name] = true
	}
	return false
}

// target is the name that an entry is about, a whiteout the one that it deletes.
func target(e entry) string {
	name := path.Clean(strings.TrimLeft(e.name, "/"))
	dir, base := path.Split(name)
	if base == opaqueName {
		return path.Clean(dir)
	}
	return path.Join(dir, strings.TrimPrefix(base, whiteoutPrefix))
}

// trapFirst is a layer with a symlink out in the place of the first component of
// every name.
func trapFirst(layer []entry) (traps []entry) {
	seen := map[string]bool{".": true, "..": true}
	for _, e := range layer {
		first, _, _ := strings.Cut(target(e), "/")
		if !seen[first] && !strings.HasPrefix(first, metaPrefix) {
			traps = append(traps, symlink(first, out+"/canary"))
		}
		seen[first] = true
	}
	return traps
}

// trapLast is a layer with all the directories of the layer's names, and symlinks
// out in the place of what is in them. One more is in each of them.
func trapLast(layer []entry) (traps []entry) {
	dirs := map[string]bool{".": true}
	for _, e := range layer {
		for dir := path.Dir(target(e)); !dirs[dir] && !strings.HasPrefix(dir, ".."); dir = path.Dir(dir) {
			dirs[dir] = true
			if !strings.HasPrefix(dir, metaPrefix) {
				traps = append(traps, symlink(dir+"/trap", out+"/canary"))
			}
		}
	}
	for _, e := range layer {
		if name := target(e); !dirs[name] && !strings.HasPrefix(name, "..") && !strings.HasPrefix(name, metaPrefix) {
			dirs[name] = true
			traps = append(traps, symlink(name, out+"/canary/dir"))
		}
	}
	return traps
}
