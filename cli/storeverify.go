package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/decode"
	"github.com/fastpull/fastpull/destination/dockerroot"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
)

// storeVerify is fastpull verify for a store.
type storeVerify struct {
	dir     string
	repair  bool
	jobs    int
	output  outputFlags
	connect connectFlags
	limits  limitFlags
}

func (f *storeVerify) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	storeFlag(cmd, &f.dir)
	fl.BoolVar(&f.repair, "repair", false, "fetch again what is damaged in a store, and put it right")
	fl.IntVar(&f.jobs, "jobs", 0, "work on `N` layers of a store at a time (default: cores)")
	f.connect.add(fl)
	f.limits.add(fl)
}

// storeVerified is what verify prints of a store.
type storeVerified struct {
	Store string `json:"store"`
	OK    bool   `json:"ok"`
	overlay.Verified
	Mended *dockerroot.Mended `json:"mended,omitempty"`
}

func (f *storeVerify) run(cmd *cobra.Command, s Streams, names []string) error {
	ctx := cmd.Context()
	mode, err := f.output.mode()
	if err != nil {
		return err
	}
	if cmd.Flags().Changed("jobs") && f.jobs < 1 {
		return fault.New(fault.Usage, "--jobs %d: at least one layer has to be worked on", f.jobs)
	}
	store, err := overlay.OpenReader(f.dir)
	if err != nil {
		return orFile(cmd, names, err)
	}
	o := overlay.VerifyOptions{Cores: f.jobs}
	for _, name := range names {
		full, err := fullName(store, name)
		if err != nil {
			return err
		}
		id, err := store.Resolve(full)
		if err != nil {
			return orFile(cmd, []string{name}, err)
		}
		o.Images = append(o.Images, id)
	}
	if f.repair {
		// A user that may not write to the store gets the error before all is read.
		w, err := overlay.Open(ctx, f.dir, overlay.Options{})
		if err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	display := progress.New(progress.Options{Mode: mode, Out: s.Err})
	defer display.Close()
	v, err := verifyStore(ctx, store, display, o)
	if err != nil {
		return err
	}
	result := storeVerified{Store: store.Dir(), Verified: v}
	var unmended error
	if f.repair && len(v.Damages) > 0 {
		unmended, err = f.mend(ctx, display, store, o, &result)
		if err != nil {
			return err
		}
	}
	display.Close()
	result.OK = len(result.Damages) == 0
	failures := append(result.failures(f.repair), fault.Wrap(fault.Corrupt, unmended))
	if f.output.json {
		return errors.Join(append(failures, printJSON(s.Out, result))...)
	}
	if !f.output.quiet {
		failures = append(failures, result.print(s.Out))
	}
	return errors.Join(failures...)
}

// failures returns an error for each damage, with what the user can do.
func (v *storeVerified) failures(repaired bool) (failures []error) {
	curable := -1
	for i, d := range v.Damages {
		failures = append(failures, d)
		if !d.Unfit {
			curable = i
			continue
		}
		failures[i] = fault.WithHint(d, "Docker cannot have this image, and may not start with it: remove it with fastpull rm --force --store %s %.12s", v.Store, d.Image.Encoded())
	}
	if curable >= 0 && !repaired {
		failures[curable] = fault.WithHint(failures[curable], "fastpull verify --repair --store %s fetches again what is damaged", v.Store)
	}
	return failures
}

// print prints what was mended, and that all is well if it is.
func (v *storeVerified) print(w io.Writer) (err error) {
	if v.Mended != nil {
		for _, d := range v.Mended.Configs {
			fmt.Fprintf(w, "mended config %s\n", d)
		}
		for _, d := range v.Mended.Layers {
			fmt.Fprintf(w, "mended layer %s\n", d)
		}
	}
	if v.OK {
		_, err = fmt.Fprintf(w, "%s: %s, %s, %s: all as it should be\n", text.Printable(v.Store), text.Count(v.Images, "image"), text.Count(len(v.Good), "layer"), progress.Bytes(v.Bytes))
	}
	return err
}

// mend fetches what is damaged, and looks again. unmended says why the rest could not be
// mended.
func (f *storeVerify) mend(ctx context.Context, display *progress.Display, store *overlay.Reader, o overlay.VerifyOptions, result *storeVerified) (unmended, err error) {
	hosts := f.connect.options()
	if err := f.limits.set(&hosts); err != nil {
		return nil, err
	}
	hosts.Note = func(words string) { display.Note("%s", words) }
	client, err := registry.New(hosts)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	gzip, err := decode.ParseGzip(cmp.Or(os.Getenv(gzipVariable), string(decode.GzipAuto)))
	if err != nil {
		return nil, fmt.Errorf("$%s: %w", gzipVariable, err)
	}
	repair := dockerroot.RepairOptions{
		Registry: client, Path: f.dir, Gzip: gzip, Progress: display, Layers: f.jobs, NoResume: f.limits.noResume,
	}
	m, v, unmended, err := dockerroot.Mend(ctx, repair, result.Verified, func(good map[digest.Digest]bool) (overlay.Verified, error) {
		o.Good = good
		return verifyStore(ctx, store, display, o)
	})
	result.Mended, result.Verified = &m, v
	return unmended, err
}

// verifyStore looks at a store, and shows how far it is.
func verifyStore(ctx context.Context, store *overlay.Reader, display *progress.Display, o overlay.VerifyOptions) (overlay.Verified, error) {
	var task *progress.Task
	o.Expect = func(n int64) {
		task = display.Task("verify "+store.Dir(), n)
		task.Phase(progress.Verifying)
	}
	o.Read = func(n int64) { task.Add(n) }
	v, err := store.Verify(ctx, o)
	if len(v.Damages) > 0 {
		task.Phase(progress.Failed)
	} else {
		task.Phase(progress.Outcome(ctx, err))
	}
	return v, err
}
