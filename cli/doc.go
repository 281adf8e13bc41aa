// Package cli is the command line: flags, output and exit codes, and no work of
// its own.
//
// Results go to standard output, one line an image or JSON, and nothing else
// does. Progress, notes and errors go to standard error. An error is printed as
// what was being done, on what, and why it failed; a second line begins with
// "hint:" where the user can do something about it.
//
// The exit codes are those of package fault, and 130 after an interrupt.
package cli
