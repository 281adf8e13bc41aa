// Command image makes the container image of fastpull itself, for several platforms, as a
// bundle. `make image` calls it.
//
//	image -o FILE -name NAME -version VERSION [-revision COMMIT] -created SECONDS OS/ARCH=BINARY...
//
// It needs no daemon and no network. The same arguments and the same binaries give the same
// bytes: everything in the image has the time of -created, in seconds since 1970. `make image`
// takes $SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/), or else
// the time of the commit.
//
// # What is in it
//
// The static binary, certificate authorities, and directories for temporary files. There is
// no shell and no user land.
//
// The authorities are those of golang.org/x/crypto/x509roots, which the Go project generates
// from Mozilla's list. Its version is pinned in go.sum, so the bytes do not depend on the
// machine that builds, as those of a distribution's bundle do, and govulncheck reports a
// version that is out of date. Authorities that Mozilla trusts with a constraint only are left
// out: a file of certificates cannot express one.
//
// Layers are plain tars. A node whose decompressor hangs is where fastpull is needed most, and
// such a node can pull an image only if nothing in it is compressed. A registry compresses
// nothing either, so a pull moves 2.6 times the bytes of a gzip layer (26.6 MB in place of 10.1).
//
// The user is root. The image writes into the root directory of containerd or of Docker, gives
// files their owners, and uses sockets that are root's. Where that is not needed, such as
// for fastpull push, the user can be set when it is run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/image"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// about is what is said of the image in its labels.
type about struct {
	name, version, revision string
	created                 time.Time
}

// run makes the image that the arguments tell of.
func run(ctx context.Context, args []string) error {
	var a about
	fl := flag.NewFlagSet("image", flag.ContinueOnError)
	out := fl.String("o", "", "write the bundle to `FILE`")
	fl.StringVar(&a.name, "name", "", "`NAME` of the image, with a tag")
	fl.StringVar(&a.version, "version", "", "`VERSION` of fastpull")
	fl.StringVar(&a.revision, "revision", "", "`COMMIT` of its source")
	created := fl.String("created", "", "`SECONDS` since 1970")
	if err := fl.Parse(args); err != nil {
		return err
	}
	if *out == "" || a.name == "" || a.version == "" || fl.NArg() == 0 {
		return errors.New("usage: image -o FILE -name NAME -version VERSION [-revision COMMIT] -created SECONDS, and OS/ARCH=BINARY for each platform")
	}
	seconds, err := strconv.ParseInt(*created, 10, 64)
	if err != nil {
		return fmt.Errorf("-created %q: it has to be a number of seconds", *created)
	}
	a.created = time.Unix(seconds, 0).UTC()
	f, err := bundle.Create(*out, bundle.FileOptions{})
	if err != nil {
		return err
	}
	defer f.Close()
	if err := write(bundle.NewWriter(f), a, fl.Args()); err != nil {
		return err
	}
	if err := f.Finish(); err != nil {
		return err
	}
	return f.Publish(ctx, nil)
}

// write writes an image for each of the programs, and an index of them.
func write(w *bundle.Writer, a about, programs []string) error {
	base, err := baseLayer(a.created)
	if err != nil {
		return err
	}
	var manifests []ocispec.Descriptor
	for _, arg := range programs {
		name, file, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is not OS/ARCH=BINARY", arg)
		}
		platform, err := image.ParsePlatform(name)
		if err != nil {
			return err
		}
		program, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		top, err := programLayer(program, a.created)
		if err != nil {
			return err
		}
		m, err := writeImage(w, a, platform, base, top)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		manifests = append(manifests, m)
	}
	index, err := writeIndex(w, a, manifests)
	if err != nil {
		return err
	}
	w.Entry(bundle.Entry{Name: a.name, Descriptor: index}.Annotated())
	return w.Close()
}
