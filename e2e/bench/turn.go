package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// figures is what one turn came to.
type figures struct {
	Wall     float64  `json:"wallSeconds"`
	Machine  float64  `json:"machineCPUSeconds"` // of all processes, the registry and the kernel
	Own      float64  `json:"ownCPUSeconds"`     // of the program, and its daemon
	Peak     int64    `json:"peakBytes"`         // resident, of the one that unpacks
	Flush    float64  `json:"flushSeconds"`      // to get the rest to the disk afterwards
	Written  int64    `json:"writtenBytes"`      // to the disk, the flush included
	Requests requests `json:"requests"`
}

// work is what is measured in a turn. It tells what it has used.
type work func(ctx context.Context) (usage, error)

// measure does work on a disk and measures it, and what it asks the registry for.
func (b *bench) measure(ctx context.Context, d *disk, do work) (f figures, err error) {
	if _, err := b.source.registry.traffic(ctx); err != nil {
		return f, err
	}
	if f, err = timed(ctx, d, do); err != nil {
		return f, err
	}
	f.Requests, err = b.source.registry.traffic(ctx)
	return f, err
}

// timed does work on a disk and measures it.
func timed(ctx context.Context, d *disk, do work) (f figures, err error) {
	before, err := d.written()
	if err != nil {
		return f, err
	}
	if f, err = clocked(ctx, do); err != nil {
		return f, err
	}
	if f.Flush, err = d.flush(); err != nil {
		return f, err
	}
	after, err := d.written()
	f.Written = after - before
	return f, err
}

// clocked does work and measures it.
func clocked(ctx context.Context, do work) (f figures, err error) {
	unix.Sync() // what others have written is not to be written in our time
	before, err := machineCPU()
	if err != nil {
		return f, err
	}
	begun := time.Now()
	u, err := do(ctx)
	f.Wall = time.Since(begun).Seconds()
	if err != nil {
		return f, err
	}
	after, err := machineCPU()
	if err != nil {
		return f, err
	}
	f.Machine, f.Own, f.Peak = after-before, u.cpu, u.peak
	return f, nil
}

// withDaemon measures work that a daemon has a part in: its CPU time during the
// work is added, and peak is the daemon's own if that is wanted.
func (b *bench) withDaemon(ctx context.Context, d *disk, s *server, daemonPeak bool, do work) (figures, error) {
	return b.measure(ctx, d, func(ctx context.Context) (u usage, err error) {
		before, err := s.usage()
		if err != nil {
			return u, err
		}
		if u, err = do(ctx); err != nil {
			return u, fmt.Errorf("%w%s", err, lastLines(s.out.String()))
		}
		after, err := s.usage()
		if err != nil {
			return u, err
		}
		u.cpu += after.cpu - before.cpu
		if daemonPeak {
			u.peak = after.peak
		}
		return u, nil
	})
}

// expectID compares the ID of an image that arrived with that of the one which
// was sent.
func expectID(img *testImage, got string) error {
	if got != img.ID {
		return fmt.Errorf("what arrived of %s has the image ID %q, not %s", img.Name, got, img.ID)
	}
	return nil
}
