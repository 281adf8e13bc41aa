//go:build race

package need

// Raced tells whether this is a build with the race detector.
const Raced = true
