package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
)

// storeFlag adds --store to a command that looks at one.
func storeFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "store", defaultStore(), "look at the store at `DIR`")
}

// layerInfo is a layer as inspect prints it.
type layerInfo struct {
	DiffID  digest.Digest `json:"diffID"`
	ChainID digest.Digest `json:"chainID"`
	Size    int64         `json:"size"` // bytes of its files
	Path    string        `json:"path"` // its files
}

// imageInfo is an image as images and inspect print it.
type imageInfo struct {
	ID       digest.Digest   `json:"id"`
	Names    []string        `json:"names"`
	Platform string          `json:"platform"`
	Created  time.Time       `json:"created,omitzero"`
	Size     int64           `json:"size"` // bytes of all layers' files
	Layers   []layerInfo     `json:"layers"`
	Missing  int             `json:"missing"` // layers that the store lacks
	Staged   bool            `json:"staged,omitempty"`
	Config   json.RawMessage `json:"config,omitempty"`
}

func describe(s *overlay.Reader, img *overlay.Image) imageInfo {
	info := imageInfo{
		ID: img.ID, Names: img.Names, Platform: image.FormatPlatform(img.Platform), Created: img.Created,
		Layers: []layerInfo{},
	}
	if info.Names == nil {
		info.Names = []string{}
	}
	for _, l := range s.Chain(img.Layers) {
		info.Size += l.Size
		info.Layers = append(info.Layers, layerInfo{l.DiffID, l.ChainID, l.Size, s.DiffDir(l)})
	}
	info.Missing = len(img.Layers) - len(info.Layers)
	return info
}

func newImages(s Streams) *cobra.Command {
	var dir string
	var asJSON, quiet bool
	cmd := &cobra.Command{
		Use:     "images",
		Aliases: []string{"ls"},
		Short:   "List the images of a store",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := notBoth(cmd.Flags(), "quiet", "json"); err != nil {
				return err
			}
			store, err := overlay.OpenReader(dir)
			if err != nil {
				return err
			}
			// What can be read is printed, whatever the error.
			list, damaged := store.Images()
			infos := []imageInfo{}
			for _, img := range list {
				infos = append(infos, describe(store, img))
			}
			staging := store.Staging()
			waiting, _, err := staging.Waiting()
			damaged = errors.Join(damaged, err)
			for _, img := range waiting {
				info := describe(staging, img)
				info.Staged = true
				infos = append(infos, info)
			}
			switch {
			case asJSON:
				err = printJSON(s.Out, infos)
			case quiet:
				err = printIDs(s.Out, infos)
			default:
				err = printTable(s.Out, infos)
			}
			return errors.Join(damaged, err)
		},
	}
	storeFlag(cmd, &dir)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the IDs of the images alone, without those that are staged")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// printIDs prints the ID of each image that the store has.
func printIDs(w io.Writer, infos []imageInfo) error {
	for _, i := range infos {
		if i.Staged {
			continue
		}
		if _, err := fmt.Fprintln(w, i.ID); err != nil {
			return err
		}
	}
	return nil
}

// printTable prints a row for every tag, and one for an image without any.
func printTable(w io.Writer, infos []imageInfo) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tLAYERS")
	for _, i := range infos {
		tags := 0
		for _, name := range i.Names {
			if colon := strings.LastIndexByte(name, ':'); colon >= 0 && !strings.Contains(name, "@") {
				row(t, name[:colon], name[colon+1:], i)
				tags++
			}
		}
		if tags == 0 {
			repo := "<none>"
			if len(i.Names) > 0 {
				repo, _, _ = strings.Cut(i.Names[0], "@")
			}
			row(t, repo, "<none>", i)
		}
	}
	return t.Flush()
}

func row(w io.Writer, repo, tag string, i imageInfo) {
	created := "-"
	if !i.Created.IsZero() {
		created = i.Created.UTC().Format(time.DateOnly)
	}
	size := progress.Bytes(i.Size)
	if i.Missing > 0 {
		size = fmt.Sprintf("%d layers missing", i.Missing)
	}
	staged := ""
	if i.Staged {
		staged = ", staged"
	}
	fmt.Fprintf(w, "%s\t%s\t%.12s\t%s\t%s\t%d%s\n", text.Printable(repo), text.Printable(tag), i.ID.Encoded(), created, size, len(i.Layers), staged)
}

// findImage opens a store and finds an image in it by what a user calls it.
func findImage(dir, name string) (*overlay.Reader, *overlay.Image, error) {
	store, err := overlay.OpenReader(dir)
	if err != nil {
		return nil, nil, err
	}
	if name, err = fullName(store, name); err != nil {
		return nil, nil, err
	}
	img, err := store.Find(name)
	return store, img, err
}

func newInspect(s Streams) *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect [flags] IMAGE|FILE",
		Short: "Show an image of a store, or what a bundle has",
		Long: `inspect shows an image of a store: names, layers, config. If there is a file of that
name, or parts of one, and no --store, it shows what is in that bundle.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if !cmd.Flags().Changed("store") && isBundle(a[0]) {
				return inspectBundle(cmd.Context(), s, a[0], asJSON)
			}
			store, img, err := findImage(dir, a[0])
			if err != nil {
				return orFile(cmd, a, err)
			}
			info := describe(store, img)
			if asJSON {
				info.Config = img.Config
				return printJSON(s.Out, info)
			}
			return printInspect(s.Out, info)
		},
	}
	storeFlag(cmd, &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the image's config")
	return cmd
}

// orFile says in the error of a command that takes a file or images of a store that there
// is no file of the first name. It does so where the user named no store.
func orFile(cmd *cobra.Command, names []string, err error) error {
	if len(names) == 0 || cmd.Flags().Changed("store") || fault.KindOf(err) != fault.NotFound {
		return err
	}
	return fault.WithHint(fault.New(fault.NotFound, "there is no file %s, and %w", names[0], err), "for a store, name the directory that was pulled into with --store")
}

func printInspect(w io.Writer, i imageInfo) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "ID:\t%s\n", i.ID)
	for _, n := range i.Names {
		fmt.Fprintf(t, "Name:\t%s\n", text.Printable(n))
	}
	fmt.Fprintf(t, "Platform:\t%s\n", text.Printable(i.Platform))
	if !i.Created.IsZero() {
		fmt.Fprintf(t, "Created:\t%s\n", i.Created.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(t, "Size:\t%s\n", progress.Bytes(i.Size))
	for n, l := range i.Layers {
		fmt.Fprintf(t, "Layer %d:\t%s  %s\n\t%s\n", n+1, l.DiffID, progress.Bytes(l.Size), text.Printable(l.Path))
	}
	if i.Missing > 0 {
		fmt.Fprintf(t, "Missing:\t%d layers; pull the image again\n", i.Missing)
	}
	return t.Flush()
}

func newMount(s Streams) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "mount [flags] IMAGE DIR",
		Short: "Mount an image of a store at a directory, read-only",
		Args:  args(cobra.ExactArgs(2)),
		RunE: func(_ *cobra.Command, a []string) error {
			store, img, err := findImage(dir, a[0])
			if err != nil {
				return err
			}
			if err := store.Mount(img.Image, a[1]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(s.Out, "%s → %s\n", img.ID, text.Printable(a[1]))
			return err
		},
	}
	storeFlag(cmd, &dir)
	return cmd
}

func newUmount() *cobra.Command {
	return &cobra.Command{
		Use:     "umount DIR",
		Aliases: []string{"unmount"},
		Short:   "Take away what fastpull mount mounted",
		Args:    args(cobra.ExactArgs(1)),
		RunE:    func(cmd *cobra.Command, a []string) error { return overlay.Unmount(cmd.Context(), a[0]) },
	}
}
