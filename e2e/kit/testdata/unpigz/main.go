// Unpigz behaves like the broken one of the field report: it decompresses
// some of what it is given, then stands still for ever without an error. First
// of all it writes its process ID into a file called started, beside itself,
// so that a test knows its parents, and how often it ran. Run by a user that may not
// write there, as fastpull doctor runs it, it leaves no trace.
package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

func main() {
	if err := note(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	// Errors do not matter from here on: whatever happens, it hangs.
	if z, err := gzip.NewReader(os.Stdin); err == nil {
		io.CopyN(os.Stdout, z, 300_000)
	}
	for {
		time.Sleep(time.Hour)
	}
}

func note() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(filepath.Dir(self), "started"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(f, os.Getpid()); err != nil {
		return err
	}
	return f.Close()
}
