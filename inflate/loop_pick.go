//go:build purego || !(amd64 || arm64 || ppc64le)

package inflate

// loop and markerLoop are what [lane.run] and [lane.runMarkers] run.
var (
	loop       = safeLoop
	markerLoop = safeMarkerLoop
)
