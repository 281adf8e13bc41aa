package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// registry is a running docker-registry.
type registry struct {
	*server
	addr  string
	log   accessLog
	marks int
}

// startRegistry starts one that keeps its files in root; its config goes into
// dir.
func startRegistry(ctx context.Context, root, dir string) (*registry, error) {
	program, err := firstOf("/usr/bin/docker-registry", "docker-registry")
	if err != nil {
		return nil, err
	}
	r := &registry{}
	if r.addr, err = freePort(); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`version: 0.1
log: {accesslog: {disabled: false}, level: warn}
storage: {cache: {blobdescriptor: inmemory}, filesystem: {rootdirectory: %q}}
http: {addr: %q, secret: bench}
`, root, r.addr)
	file := filepath.Join(dir, "registry.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	if r.server, err = startServer(exec.Command(program, "serve", file), &r.log); err != nil {
		return nil, err
	}
	if err := r.ready(ctx, func(ctx context.Context) error { return r.get(ctx, "/v2/") }); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

// get asks the registry for something, and reads and forgets the answer.
func (r *registry) get(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.addr+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err = io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return err
}

// traffic is what was asked for since the last call of traffic. A request's line
// is logged after its answer; one of our own, which comes last, shows that those
// before it are there.
func (r *registry) traffic(ctx context.Context) (requests, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r.marks++
	path := fmt.Sprintf("/v2/?mark=%d", r.marks)
	seen := r.log.expect(path)
	if err := r.get(ctx, path); err != nil {
		return requests{}, err
	}
	select {
	case <-seen:
		return r.log.take(), nil
	case <-r.ended:
		return requests{}, errors.New("the registry has ended")
	case <-ctx.Done():
		return requests{}, fmt.Errorf("wait for the registry's access log: %w", context.Cause(ctx))
	}
}
