package pull

import (
	"testing"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination/all"
	"github.com/fastpull/fastpull/destination/archive"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
)

// to is a run, and where it goes. The registry is plain HTTP on the loopback.
type to struct {
	Options
	Kind     string // as in all.Table; "" lets all.Auto choose
	Path     string // its value
	Host     string // of the Engine
	TempDir  string
	Bundle   archive.Options
	Registry *registry.Client
	From     *bundle.Reader // nil for the registry
}

// options returns the options of the run.
func (o to) options(t *testing.T) Options {
	t.Helper()
	if o.TempDir == "" {
		o.TempDir = t.TempDir()
	}
	var opts all.Options
	opts.Engine.Host, opts.Engine.TempDir, opts.Archive = o.Host, o.TempDir, o.Bundle
	o.Options.Platforms, o.Options.AllPlatforms = o.Bundle.Platforms, o.Bundle.All
	if o.Options.Open = all.Named(o.Kind, o.Path, opts); o.Kind == "" {
		o.Options.Open = all.Auto(o.Path, opts)
	}
	switch {
	case o.From != nil:
		var err error
		if o.Source, _, err = source.Bundle(o.From); err != nil {
			t.Fatal(err)
		}
	case o.Registry != nil:
		o.Source = source.Registries(o.Registry)
	default:
		o.Source = source.Registries(client(t, "test"))
	}
	return o.Options
}
