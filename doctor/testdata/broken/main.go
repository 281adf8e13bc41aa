// Broken is an unpigz that does one thing wrong. Which one is told by the name of the
// folder that it is in.
package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	self, err := os.Executable()
	if err != nil { // in a root without /proc
		self = "/" + os.Args[0] + "/"
	}
	switch mode := filepath.Base(filepath.Dir(self)); mode {
	case "hangs":
		hang()
	case "hangs-after-64k":
		io.CopyN(os.Stdout, plain(), 64<<10)
		hang()
	case "wrong-bytes":
		for at, buf := int64(0), make([]byte, 32<<10); ; {
			n, err := plain().Read(buf)
			if wrong := 40_000 - at; wrong >= 0 && wrong < int64(n) {
				buf[wrong] ^= 1
			}
			os.Stdout.Write(buf[:n])
			if at += int64(n); err != nil {
				return
			}
		}
	case "half-the-output":
		data, err := io.ReadAll(plain())
		if err != nil {
			fail(err)
		}
		os.Stdout.Write(data[:len(data)/2])
	case "accepts-all":
		io.Copy(os.Stdout, plain())
	case "refuses":
		fail("no licence\nis installed")
	case "crashes":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		hang()
	case "leaves-a-child":
		// It keeps our ends of the pipes, but in our group.
		cmd := exec.Command("/proc/self/exe", "child")
		cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
		if len(os.Args) > 1 && os.Args[1] == "child" {
			hang()
		}
		if err := cmd.Start(); err != nil {
			fail(err)
		}
	case "dockerd":
		// It is no unpigz, but the parent of one: dockerd PROGRAM BYTES, with as many
		// bytes of input and no end of it, or dockerd PROGRAM, with nothing but an end.
		dockerd()
	case "rpm":
		// It is no unpigz, but the package manager, which is asked about it.
		if os.Args[1] == "-V" {
			fmt.Println("S.5....T.    /usr/bin/pigz")
			os.Exit(1)
		}
		fmt.Println("pigz-2.4-7.uel20.01.aarch64")
	case "spins":
		for {
		}
	case "tells":
		status, _ := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "Uid:") || strings.HasPrefix(line, "NoNewPrivs:") || strings.HasPrefix(line, "Groups:") {
				fmt.Print(line)
			}
		}
		links, _ := net.Interfaces()
		fmt.Printf("user %d, process %d, interfaces %d\n", os.Getuid(), os.Getpid(), len(links))
		dir, _ := os.Getwd()
		fmt.Println(dir, os.Environ())
	case "stays":
		child := exec.Command("/hangs")
		child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			fail(err)
		}
		fmt.Println("started")
	default:
		fail("no such mode: " + mode)
	}
}

func dockerd() {
	if os.Getenv("MOBY_DISABLE_PIGZ") == "maybe" { // the dockerd that heeds this variable
		fail("neither true nor false")
	}
	cmd := exec.Command(os.Args[1], "-d", "-c")
	in, err := cmd.StdinPipe()
	if err != nil {
		fail(err)
	}
	if _, err := cmd.StdoutPipe(); err != nil {
		fail(err)
	}
	if err := cmd.Start(); err != nil {
		fail(err)
	}
	fmt.Println(cmd.Process.Pid)
	if len(os.Args) > 2 {
		n, _ := strconv.Atoi(os.Args[2])
		in.Write(make([]byte, n))
	} else {
		in.Close()
	}
	io.Copy(io.Discard, os.Stdin) // until the test is over
	cmd.Process.Kill()
	cmd.Wait()
}

var reader *gzip.Reader

func plain() io.Reader {
	if reader == nil {
		var err error
		if reader, err = gzip.NewReader(os.Stdin); err != nil {
			fail(err)
		}
	}
	return reader
}

func hang() {
	for {
		time.Sleep(time.Hour)
	}
}

func fail(v any) {
	fmt.Fprintln(os.Stderr, v)
	os.Exit(1)
}
