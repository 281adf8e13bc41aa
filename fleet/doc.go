// Package fleet is what a host among many needs beside a pull: a line about each run for
// programs that watch hosts, and runs that follow a list of images.
//
// [Report] appends a [Line] for a run to a file. [Watch] pulls a list of images, and again
// when the list changes, when a run has failed, and from time to time. [State] tells how
// that goes: whether all images of the list are on the host, and metrics in the text format
// of Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/).
//
// The package does not print. It knows no destination and no flag: the caller gives it
// functions that read the list and pull.
package fleet
