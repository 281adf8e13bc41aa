// Command packaging makes the files of a release other than its binaries. It is a module of its
// own, so that the program does not depend on the packages that only it needs. It links the
// commands to make man pages and completions, and runs no binary: most are for other machines.
//
//	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) go run . -version v1.2.3 ../dist
//
// The directory has the binaries, fastpull-linux-ARCH. Beside them it writes
//
//   - fastpull-linux-ARCH.cdx.json: the modules in the binary, in the format of CycloneDX
//   - THIRD_PARTY_LICENSES.txt: the licences of all modules in the binaries
//   - fastpull_VERSION_ARCH.deb and fastpull-VERSION-1.ARCH.rpm for amd64 and arm64: the
//     binary with man pages, completions and documents
//
// The same tree, version and date give the same bytes: nothing is taken from the clock, the
// user, or the name of the machine. It fails for a binary that is not static or not built
// from this tree, and for a module without a licence that it knows.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	version := flag.String("version", "", "the version, as of git describe")
	flag.Parse()
	if *version == "" || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: packaging -version VERSION DIST")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, flag.Arg(0), *version); err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

// release is what all files of a release are made from.
type release struct {
	version string
	date    time.Time // of the commit
	dist    string    // where the binaries are, and the other files go
	tree    string    // the root of the repository
}

func run(ctx context.Context, dist, version string) (err error) {
	date, err := sourceDate()
	if err != nil {
		return err
	}
	tree, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	r := release{version, date, dist, tree}
	binaries, err := readBinaries(dist)
	if err != nil {
		return err
	}
	licences, err := findLicences(ctx, r.tree, binaries)
	if err != nil {
		return err
	}
	if err := r.write(thirdPartyFile, licences.text()); err != nil {
		return err
	}
	for _, b := range binaries {
		bom, err := r.sbom(b, licences)
		if err != nil {
			return err
		}
		if err := r.write(b.name()+sbomSuffix, bom); err != nil {
			return err
		}
	}
	stage, err := os.MkdirTemp("", "packaging")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(stage)) }()
	return r.packages(stage, binaries)
}

// write makes a file of the release.
func (r release) write(name string, data []byte) error {
	return os.WriteFile(filepath.Join(r.dist, name), data, 0o644)
}

// sourceDate returns the time that all files bear.
// See https://reproducible-builds.org/specs/source-date-epoch/.
func sourceDate() (time.Time, error) {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return time.Time{}, errors.New("SOURCE_DATE_EPOCH must be a time in seconds, as of git log -1 --format=%ct")
	}
	return time.Unix(seconds, 0).UTC(), nil
}
