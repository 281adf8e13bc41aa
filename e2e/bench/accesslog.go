package main

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
)

// requests is what a registry was asked for, GET and HEAD together.
type requests struct {
	Manifests int `json:"manifests"`
	Blobs     int `json:"blobs"`
}

// accessLog counts requests as the registry logs them:
//
//	127.0.0.1 - - [23/Nov/2026:15:54:17 +0000] "GET /v2/x/manifests/1 HTTP/1.1" 200 2 "" "agent"
type accessLog struct {
	mu    sync.Mutex
	rest  []byte // of a line that is not whole yet
	count requests
	marks map[string]chan struct{} // closed when a request for it is logged
}

var accessLine = regexp.MustCompile(`^\S+ - \S+ \[[^]]+\] "(?:GET|HEAD) (\S+) HTTP/[\d.]+" `)

func (l *accessLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		if m := accessLine.FindSubmatch(line); m != nil {
			l.request(string(m[1]))
		}
		l.rest = append(l.rest[:0], rest...)
	}
}

func (l *accessLog) request(path string) {
	switch {
	case l.marks[path] != nil:
		close(l.marks[path])
		delete(l.marks, path)
	case strings.Contains(path, "/manifests/"):
		l.count.Manifests++
	case strings.Contains(path, "/blobs/"):
		l.count.Blobs++
	}
}

// expect returns a channel that is closed when path was asked for.
func (l *accessLog) expect(path string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.marks == nil {
		l.marks = make(map[string]chan struct{})
	}
	seen := make(chan struct{})
	l.marks[path] = seen
	return seen
}

// take returns the count and begins anew.
func (l *accessLog) take() requests {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.count
	l.count = requests{}
	return c
}
