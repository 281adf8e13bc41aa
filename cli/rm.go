package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
)

func newRemove(s Streams) *cobra.Command {
	var dir string
	var force, asJSON bool
	cmd := &cobra.Command{
		Use:     "rm [flags] IMAGE...",
		Aliases: []string{"rmi"},
		Short:   "Remove images from a store",
		Long: `rm removes images of a store, or names of them, by the rules of docker rmi: by a name
that name, and with the last name the image; by an ID the image, if it has one name.
Layers go that no other image needs.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return remove(cmd.Context(), s, dir, a, force, asJSON)
		},
	}
	storeFlag(cmd, &dir)
	cmd.Flags().BoolVarP(&force, "force", "f", false, "by an ID, remove all of its names; remove an image that a container uses")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// removed is what rm prints of a name.
type removed struct {
	Name string `json:"name"`
	overlay.Removal
}

// remove removes the named images, as far as possible.
func remove(ctx context.Context, s Streams, dir string, names []string, force, asJSON bool) error {
	store, err := overlay.OpenToRemove(ctx, dir)
	if err != nil {
		return err
	}
	results := []removed{}
	var failures []error
	for _, name := range names {
		full, err := fullName(&store.Reader, name)
		if err == nil {
			var r overlay.Removal
			r, err = store.Remove(ctx, full, overlay.RemoveOptions{Force: force, Waiting: waiting(s.Err)})
			results = append(results, removed{name, r})
			if !asJSON {
				failures = append(failures, printRemoval(s.Out, r))
			}
		}
		if failures = append(failures, err); ctx.Err() != nil {
			break
		}
	}
	if asJSON {
		failures = append(failures, printJSON(s.Out, results))
	}
	return errors.Join(append(failures, store.Close())...)
}

// fullName returns the name of an image in the store, in Docker's familiar form. It returns the
// user's own words if the store has no such name.
func fullName(store *overlay.Reader, name string) (string, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return name, nil
	}
	full := ref.Familiar() + ":" + ref.Tag()
	if ref.Digest() != "" {
		full = ref.Familiar() + "@" + ref.Digest().String()
	}
	id, err := store.ID(full)
	if err != nil || id == "" {
		return name, err
	}
	return full, nil
}

// waiting says that another fastpull has what this one needs.
func waiting(w io.Writer) func() {
	return func() { fmt.Fprintln(w, "waiting for another fastpull, which is changing the store") }
}

// printRemoval prints what was removed, as docker rmi does, and the room it gave.
func printRemoval(w io.Writer, r overlay.Removal) (err error) {
	say := func(format string, args ...any) {
		_, perr := fmt.Fprintf(w, format, args...)
		err = errors.Join(err, perr)
	}
	for _, name := range r.Untagged {
		say("untagged %s\n", text.Printable(name))
	}
	for _, id := range r.Deleted {
		say("deleted %s\n", id)
	}
	if len(r.Deleted) > 0 {
		say("%s removed, %s freed\n", text.Count(len(r.Layers), "layer"), progress.Bytes(r.Freed))
	}
	printKept(say, r.Kept)
	return err
}

func printKept(say func(string, ...any), kept []overlay.KeptLayer) {
	for _, k := range kept {
		say("layer %s stays: %s\n", short(k.Layer), text.Printable(k.Why))
	}
}

func short(d digest.Digest) string { return fmt.Sprintf("%.12s", d.Encoded()) }
