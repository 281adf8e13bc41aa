package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"

	"github.com/fastpull/fastpull/fault"
)

// ErrNone is in the chain of the error of [OfProcess] if systemd does not run here, or does
// not have the process as a service.
var ErrNone = errors.New("no systemd service has it")

// unit is a service of systemd.
type unit struct {
	dial       func(context.Context) (*dbus.Conn, error)
	name       string
	sockets    []string // units that would start it
	dependents []string // units that stop with it
}

// OfProcess returns the service of systemd to which a process belongs.
func OfProcess(ctx context.Context, pid int) (Service, error) {
	if _, err := os.Stat("/run/systemd/system"); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: systemd does not run here", ErrNone)
	}
	return ofProcess(ctx, pid, dbus.NewWithContext)
}

func ofProcess(ctx context.Context, pid int, dial func(context.Context) (*dbus.Conn, error)) (Service, error) {
	u := &unit{dial: dial}
	err := u.call(ctx, func(c *dbus.Conn) (err error) {
		if u.name, err = c.GetUnitNameByPID(ctx, uint32(pid)); err != nil {
			return err
		}
		if !strings.HasSuffix(u.name, ".service") {
			return fmt.Errorf("%w: process %d belongs to %s", ErrNone, pid, u.name)
		}
		if u.sockets, err = active(ctx, c, u.name, "TriggeredBy"); err != nil {
			return err
		}
		for _, property := range []string{"RequiredBy", "BoundBy", "ConsistsOf", "RequisiteOf"} {
			others, err := active(ctx, c, u.name, property)
			if err != nil {
				return err
			}
			for _, other := range others {
				if !slices.Contains(u.sockets, other) && !slices.Contains(u.dependents, other) {
					u.dependents = append(u.dependents, other)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ask systemd for the service of process %d: %w", pid, err)
	}
	return u, nil
}

// active returns those units of a property of a unit that are active.
func active(ctx context.Context, c *dbus.Conn, unit, property string) (list []string, err error) {
	p, err := c.GetUnitPropertyContext(ctx, unit, property)
	if err != nil {
		return nil, err
	}
	names, ok := p.Value.Value().([]string)
	if !ok {
		return nil, fmt.Errorf("the property %s of %s is no list: %v", property, unit, p.Value)
	}
	for _, name := range names {
		state, err := c.GetUnitPropertyContext(ctx, name, "ActiveState")
		if err != nil {
			return nil, err
		}
		if state.Value.Value() == "active" {
			list = append(list, name)
		}
	}
	return list, nil
}

// call does something with a connection of its own, which ends with ctx.
func (u *unit) call(ctx context.Context, do func(*dbus.Conn) error) error {
	c, err := u.dial(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("connect to systemd: %w", err)
	}
	defer c.Close()
	err = do(c)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (u *unit) String() string { return u.name }

func (u *unit) Dependents() []string { return u.dependents }

// Stop stops the sockets first, which would start the service in the middle.
func (u *unit) Stop(ctx context.Context) error {
	return u.jobs(ctx, "stop", append(slices.Clone(u.sockets), u.name), (*dbus.Conn).StopUnitContext)
}

// Start starts the sockets first, which the service may need.
func (u *unit) Start(ctx context.Context) error {
	units := append(append(slices.Clone(u.sockets), u.name), u.dependents...)
	return u.jobs(ctx, "start", units, (*dbus.Conn).StartUnitContext)
}

// jobs has systemd do something with units, one after the other, to the end.
func (u *unit) jobs(ctx context.Context, verb string, units []string, begin func(*dbus.Conn, context.Context, string, string, chan<- string) (int, error)) error {
	return u.call(ctx, func(c *dbus.Conn) error {
		for _, name := range units {
			done := make(chan string, 1)
			_, err := begin(c, ctx, name, "replace", done)
			if err == nil {
				select {
				case result := <-done:
					if result != "done" {
						err = fault.WithHint(fmt.Errorf("systemd says that it %s", result), "journalctl -u %s -n 50", name)
					}
				case <-ctx.Done():
					err = context.Cause(ctx)
				}
			}
			if err != nil {
				return fmt.Errorf("%s %s: %w", verb, name, err)
			}
		}
		return nil
	})
}
