package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/sample"
)

const (
	greetingFile = "etc/greeting"
	greeting     = "Hello from the lowest layer.\n"
	inImage      = "usr/local/go" // where the toolchain is in the image
)

// toolchain finds this machine's Go toolchain.
func toolchain(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOROOT")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	dir := strings.TrimSpace(string(out))
	if err == nil && dir == "" {
		err = fmt.Errorf("it names none")
	}
	if err != nil {
		return "", fault.WithHint(fault.New(fault.NotFound, "find the Go toolchain: go env GOROOT: %w", err), "name an image to pull: -image HOST/NAME:TAG")
	}
	return dir, nil
}

// layers are those of the sample image: a text, and three parts of the
// toolchain, as far as it has them.
func layers(goroot string) []sample.Layer {
	list := []sample.Layer{{Text: map[string]string{greetingFile: greeting}}}
	for _, part := range []string{"bin", "pkg", "src"} {
		dir := filepath.Join(goroot, part)
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			list = append(list, sample.Layer{Trees: []sample.Tree{{Path: dir, As: path.Join(inImage, part)}}})
		}
	}
	return list
}

// serve starts a registry on a free port of the loopback that keeps its blobs in
// dir, in this process.
func serve(dir string) (addr string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("start a registry: %w", err)
	}
	silent := log.New(io.Discard, "", 0)
	server := &http.Server{
		Handler:           registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(dir)), registry.Logger(silent)),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          silent,
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // ends with Close, or the next request tells
	}()
	return listener.Addr().String(), func() {
		server.Close()
		<-ended
	}, nil
}

// offer makes the sample image and has a registry serve it. It returns the
// image's name.
func (d *demo) offer(ctx context.Context, w *work) (name string, stop func(), err error) {
	if d.goroot == "" {
		if d.goroot, err = toolchain(ctx); err != nil {
			return "", nil, err
		}
	}
	d.sh.title("A registry on this machine, with an image made of %s", d.goroot)
	begun := time.Now()
	// The layers are made where the registry looks for them, so that they need
	// not go through its memory.
	blobs := w.path(blobFolder)
	img, err := sample.Build(ctx, sample.Options{Dir: blobs}, layers(d.goroot)...)
	if err != nil {
		return "", nil, err
	}
	addr, stop, err := serve(blobs)
	if err != nil {
		return "", nil, err
	}
	name = addr + "/go:sample"
	if err := sample.Push(ctx, name, img); err != nil {
		stop()
		return "", nil, err
	}
	s, err := sample.StatsOf(img)
	if err != nil {
		stop()
		return "", nil, err
	}
	d.sh.say("%s: %d layers with %d files and folders, %.0f MB, compressed %.0f MB", name, s.Layers, s.Entries, float64(s.Plain)/1e6, float64(s.Compressed)/1e6)
	d.sh.say("  (%s)", seconds(time.Since(begun)))
	return name, stop, nil
}
