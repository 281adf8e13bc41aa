// Tool is all the user land that the sample images have. It does what its
// name says, or its first argument: cat FILE…, ls DIR, sleep SECONDS.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	args := os.Args
	if filepath.Base(args[0]) == "tool" {
		args = args[1:]
	}
	if len(args) == 0 {
		fail("usage: tool cat|ls|sleep ARGUMENT…")
	}
	switch name := filepath.Base(args[0]); name {
	case "cat":
		for _, path := range args[1:] {
			f, err := os.Open(path)
			if err != nil {
				fail(err)
			}
			if _, err := io.Copy(os.Stdout, f); err != nil {
				fail(err)
			}
			f.Close()
		}
	case "ls":
		for _, path := range args[1:] {
			entries, err := os.ReadDir(path)
			if err != nil {
				fail(err)
			}
			for _, e := range entries {
				fmt.Println(e.Name())
			}
		}
	case "sleep":
		if len(args) != 2 {
			fail("usage: sleep SECONDS")
		}
		n, err := strconv.Atoi(args[1])
		if err != nil {
			fail(err)
		}
		time.Sleep(time.Duration(n) * time.Second)
	default:
		fail("tool: unknown name ", name)
	}
}

func fail(v ...any) {
	fmt.Fprintln(os.Stderr, v...)
	os.Exit(1)
}
