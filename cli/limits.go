package cli

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/homedir"
	"github.com/fastpull/fastpull/registry"
)

// limitFlags are the flags of pull that say how blobs are fetched.
type limitFlags struct {
	connections, retries int
	chunk, minRate, rate size
	stall                time.Duration
	noResume             bool
}

func (f *limitFlags) add(fl *pflag.FlagSet) {
	f.minRate = 4 << 10
	fl.IntVar(&f.connections, "connections", 16, "keep up to `N` requests going with a registry, half of them for one blob")
	fl.Var(&f.chunk, "chunk-size", "have several connections share in each large blob, `SIZE` at a time, from 1MiB\n(default: where one would take long, 8MiB to 64MiB; units: k, M, G; KiB, MiB, GiB)")
	fl.Lookup("chunk-size").DefValue = ""
	fl.IntVar(&f.retries, "retries", 7, "give up after `N` retries without a byte in between")
	fl.DurationVar(&f.stall, "stall-timeout", 30*time.Second, "begin anew with a connection that has brought nothing for `TIME`")
	fl.Var(&f.minRate, "min-rate", "begin anew as well if all connections bring less than `SIZE` a second over that\ntime; 0: any rate will do")
	fl.Var(&f.rate, "limit-rate", "fetch no more than `SIZE` a second, over all connections; 0: no limit")
	fl.BoolVar(&f.noResume, "no-resume", false, "keep no partial blobs on the disk for a later pull")
}

// addSending adds those which hold for what is sent, too; the others keep their
// defaults.
func (f *limitFlags) addSending(fl *pflag.FlagSet) {
	f.minRate = 4 << 10
	fl.IntVar(&f.connections, "connections", 16, "keep up to `N` requests going with a registry")
	fl.IntVar(&f.retries, "retries", 7, "give up after `N` retries")
	fl.DurationVar(&f.stall, "stall-timeout", 30*time.Second, "begin anew with a connection on which nothing has gone for `TIME`")
}

// set checks the flags and puts them into the options of a client.
func (f *limitFlags) set(o *registry.Options) error {
	switch {
	case f.connections < 1:
		return fault.New(fault.Usage, "--connections %d: at least one is needed", f.connections)
	case f.retries < 0:
		return fault.New(fault.Usage, "--retries %d: it cannot be negative", f.retries)
	case f.stall < time.Second:
		return fault.New(fault.Usage, "--stall-timeout %s: it has to be a second at least", f.stall)
	case f.chunk != 0 && f.chunk < 1<<20:
		return fault.New(fault.Usage, "--chunk-size %s: it has to be 1MiB at least", &f.chunk)
	}
	o.Connections, o.ChunkSize, o.StallTimeout, o.LimitRate = f.connections, int64(f.chunk), f.stall, int64(f.rate)
	// For a library zero is the default; for a user it is zero.
	if o.Retries = f.retries; f.retries == 0 {
		o.Retries = -1
	}
	if o.MinRate = int64(f.minRate); f.minRate == 0 {
		o.MinRate = -1
	}
	return nil
}

// size is a number of bytes as a flag.
type size int64

// sizeUnits are what may follow a number; the longer ones first.
var sizeUnits = []struct {
	name string
	n    float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9},
	{"k", 1e3}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"B", 1},
}

// Set implements [pflag.Value].
func (s *size) Set(text string) error {
	number, unit := strings.TrimSpace(text), 1.0
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(n), u.n
			break
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || !(f >= 0 && f*unit < math.MaxInt64) {
		return fmt.Errorf("%q is no size such as 500k or 8MiB", text)
	}
	if n := f * unit; n > 0 && n < 1 { // 0 would mean something else
		return fault.WithHint(fmt.Errorf("%q is less than a byte", text), "add a unit, as in %sM", number)
	}
	*s = size(f * unit)
	return nil
}

// String implements [pflag.Value].
func (s *size) String() string {
	for _, u := range []struct {
		name string
		n    size
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if *s >= u.n && *s%u.n == 0 {
			return strconv.FormatInt(int64(*s/u.n), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(*s), 10)
}

// Type implements [pflag.Value].
func (s *size) Type() string { return "size" }

// defaultCache is where blobs are kept that do not go to a store. It is "" if
// there is no place.
func defaultCache() string {
	if dir := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "fastpull/partial")
	}
	if os.Geteuid() == 0 && unix.Access("/var/cache", unix.W_OK) == nil {
		return "/var/cache/fastpull/partial"
	}
	home, err := homedir.Find()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".cache/fastpull/partial")
}
