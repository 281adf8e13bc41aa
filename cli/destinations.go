package cli

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/destination/all"
	"github.com/fastpull/fastpull/fault"
)

// destinationFlags are the flags that say where images go: one for each destination of the
// table.
type destinationFlags struct {
	strings map[string]*string
	bools   map[string]*bool
	options all.Options
}

// add adds the flags of the named destinations.
func (f *destinationFlags) add(fl *pflag.FlagSet, names ...string) {
	f.strings, f.bools = make(map[string]*string), make(map[string]*bool)
	for _, d := range all.Table {
		usage := d.Usage
		if d.Name == "store" {
			usage += withoutEngine(defaultStore())
		}
		switch {
		case !slices.Contains(names, d.Name):
		case strings.Contains(d.Usage, "`"):
			f.strings[d.Name] = fl.StringP(d.Name, d.Short, "", usage)
			fl.Lookup(d.Name).NoOptDefVal = d.Alone
		default:
			f.bools[d.Name] = fl.BoolP(d.Name, d.Short, false, usage)
		}
	}
}

// inContainerd are the destinations that have images as containerd does.
var inContainerd = []string{"containerd", "containerd-root", "docker-root"}

// withoutEngine is what the help of --store says of its default.
func withoutEngine(dir string) string {
	return " (without a destination, if no engine is found: " + dir + ")"
}

// containerd adds the flags that go with containerd.
func (f *destinationFlags) containerd(fl *pflag.FlagSet) {
	fl.StringVar(&f.options.Containerd.Namespace, "namespace", "", "use the namespace `NAME` of containerd (default: $CONTAINERD_NAMESPACE,\nk8s.io where it serves a kubelet, moby where Docker has started it, or default;\nwith --docker-root moby)")
	fl.BoolVar(&f.options.Containerd.NoContent, "no-content", false, "store no blobs of layers in containerd, for hosts that discard them: containers\nrun, but the image cannot be pushed or exported")
}

// staging adds the flags that go with the data-root of a running Docker.
func (f *destinationFlags) staging(fl *pflag.FlagSet, out io.Writer) {
	fl.BoolVar(&f.options.Stage, "stage", false, "with --store: only prepare images, beside the Docker that runs on DIR;\nfastpull publish makes them visible when it is stopped")
	fl.StringVar(&f.options.Restart.Command, "restart-command", "", "with --restart-engine: run `CMD` stop and CMD start (default: systemd)")
	f.options.Restart.Output = out
}

// value returns the value of a destination's flag, and whether the flag was given.
func (f *destinationFlags) value(name string) (value string, given bool) {
	if s := f.strings[name]; s != nil {
		return *s, *s != ""
	}
	b := f.bools[name]
	return "", b != nil && *b
}

// opener returns what opens the destination that was named: at most one. Without one it is
// $FASTPULL_STORE, or what [all.Auto] chooses.
func (f *destinationFlags) opener() (all.Opener, error) {
	var given, names []string
	for _, d := range all.Table {
		if _, ok := f.value(d.Name); ok {
			given = append(given, d.Name)
		}
		if f.strings[d.Name] != nil || f.bools[d.Name] != nil {
			names = append(names, flagOf(d))
		}
	}
	if !slices.ContainsFunc(given, func(name string) bool { return slices.Contains(inContainerd, name) }) {
		switch o := f.options.Containerd; {
		case o.Namespace != "":
			return nil, fault.New(fault.Usage, "--namespace goes with --containerd, --containerd-root or --docker-root")
		case o.NoContent:
			return nil, fault.New(fault.Usage, "--no-content goes with --containerd or --containerd-root")
		}
	}
	if _, ok := f.value("store"); f.options.Stage && !ok {
		return nil, fault.New(fault.Usage, "--stage goes with --store DIR, the data-root of a Docker that runs")
	}
	if _, ok := f.value("restart-engine"); f.options.Restart.Command != "" && !ok {
		return nil, fault.New(fault.Usage, "--restart-command goes with --restart-engine")
	}
	switch len(given) {
	case 0:
		if dir := os.Getenv(storeVariable); dir != "" && f.strings["store"] != nil {
			return noted(all.Named("store", dir, f.options), "$"+storeVariable+" names it"), nil
		}
		return all.Auto(defaultStore(), f.options), nil
	case 1:
		value, _ := f.value(given[0])
		return all.Named(given[0], value, f.options), nil
	}
	return nil, fault.WithHint(fault.New(fault.Usage, "an image goes to one place at a time"), "choose one of %s and %s", strings.Join(names[:len(names)-1], ", "), names[len(names)-1])
}

// noted returns an opener that says why its destination was chosen.
func noted(open all.Opener, why string) all.Opener {
	return func(ctx context.Context, env *destination.Env) (destination.Destination, string, error) {
		d, _, err := open(ctx, env)
		return d, why, err
	}
}

// flagOf returns the flag of a destination as people write it.
func flagOf(d all.Entry) string {
	if d.Short != "" {
		return "-" + d.Short
	}
	return "--" + d.Name
}
