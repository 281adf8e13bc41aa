// Package fleet is what a host among many needs beside a pull: [Report] appends a [Line] for a
// run to a file, for programs that watch hosts.
package fleet
