package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/progress"
)

// inspectBundle prints what a bundle has.
func inspectBundle(ctx context.Context, s Streams, name string, asJSON bool) error {
	r, err := openBundle(ctx, name, "", s.In)
	if err != nil {
		return err
	}
	defer r.Close()
	l, err := r.List()
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(s.Out, l)
	}
	t := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "Bundle:\t%s\n", text.Printable(l.Bundle))
	fmt.Fprintf(t, "Size:\t%s\n", progress.Bytes(l.Size))
	if !l.Created.IsZero() {
		fmt.Fprintf(t, "Created:\t%s\n", l.Created.UTC().Format(time.RFC3339))
	}
	if l.Index != "" {
		fmt.Fprintf(t, "Index:\t%s\n", l.Index)
	}
	if l.Since != "" {
		fmt.Fprintf(t, "Since:\t%s\n", l.Since)
	}
	for _, i := range l.Images {
		fmt.Fprintf(t, "\nImage:\t%s\n", text.Printable(cmp.Or(i.Reference(), "(no name)")))
		if _, d, ok := strings.Cut(i.Source, "@"); ok {
			fmt.Fprintf(t, "From:\t%s\n", text.Printable(d))
		}
		fmt.Fprintf(t, "Platform:\t%s\nManifest:\t%s\nID:\t%s\n", text.Printable(i.Platform), i.Manifest, i.ImageID)
		for n, layer := range i.Layers {
			left := ""
			if layer.Left {
				left = ", left out"
			}
			fmt.Fprintf(t, "Layer %d:\t%s  %s%s\n", n+1, layer.Digest, progress.Bytes(layer.Size), left)
		}
	}
	for _, f := range l.Referrers {
		fmt.Fprintf(t, "\nReferrer:\t%s\nSubject:\t%s\nType:\t%s\nSize:\t%s\n", f.Manifest, f.Subject, text.Printable(f.ArtifactType), progress.Bytes(f.Size))
		if f.Tag != "" {
			fmt.Fprintf(t, "Tag:\t%s\n", f.Tag)
		}
	}
	return t.Flush()
}
