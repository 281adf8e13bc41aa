//go:build race

package need

// Raced reports whether this is a build with the race detector.
const Raced = true
