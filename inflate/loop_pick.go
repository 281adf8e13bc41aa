//go:build purego || !(amd64 || arm64 || ppc64le)

package inflate

// loop is what [lane.run] runs.
var loop = (*lane).safeLoop
