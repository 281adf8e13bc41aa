package cli

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/registry"
)

// tagList is what --json prints of a repository.
type tagList struct {
	Repository string   `json:"repository"`
	Tags       []string `json:"tags"`
}

func newTags(s Streams) *cobra.Command {
	var connect connectFlags
	var filter string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "tags [flags] REPOSITORY",
		Short: "List the tags of a repository at its registry",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			ref, err := repository(a[0])
			if err != nil {
				return err
			}
			o := connect.options()
			o.Note = func(words string) { fmt.Fprintf(s.Err, "fastpull: %s\n", words) }
			client, err := registry.New(o)
			if err != nil {
				return err
			}
			defer client.Close()
			tags, err := tagsOf(cmd.Context(), client, ref, filter)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(s.Out, tagList{ref.Familiar(), append([]string{}, tags...)})
			}
			for _, tag := range tags {
				if _, err := fmt.Fprintln(s.Out, tag); err != nil {
					return err
				}
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&filter, "filter", "", "list only tags that `PATTERN` fits, with * and ? as in a shell")
	fl.BoolVar(&asJSON, "json", false, "print the list as JSON")
	connect.add(fl)
	return cmd
}

// repository parses the name of a repository, which has no tag and no digest.
func repository(name string) (registry.Reference, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return ref, err
	}
	if last := name[strings.LastIndexByte(name, '/')+1:]; strings.ContainsAny(last, ":@") {
		return ref, fault.New(fault.Usage, "image name %q: a repository is wanted, without tag and digest", name)
	}
	return ref, nil
}

// tagsOf lists the tags of a repository that a pattern fits; "" fits all.
func tagsOf(ctx context.Context, client *registry.Client, ref registry.Reference, pattern string) ([]string, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fault.New(fault.Usage, "--filter %q: %w", pattern, err)
	}
	all, err := client.Tags(ctx, ref)
	if err != nil || pattern == "" {
		return all, err
	}
	var some []string
	for _, tag := range all {
		if fits, err := path.Match(pattern, tag); err == nil && fits {
			some = append(some, tag)
		}
	}
	return some, nil
}

// allTags returns references to all tags of repositories that a pattern fits.
func allTags(ctx context.Context, client *registry.Client, repositories []string, pattern string) (refs []registry.Reference, err error) {
	if len(repositories) == 0 {
		return nil, fault.New(fault.Usage, "--all-tags: no repository is named")
	}
	for _, name := range repositories {
		ref, rerr := repository(name)
		if rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		tags, rerr := tagsOf(ctx, client, ref, pattern)
		if rerr == nil && len(tags) == 0 {
			rerr = fault.New(fault.NotFound, "%s has no tags", ref.Familiar())
			if pattern != "" {
				rerr = fault.New(fault.NotFound, "%s has no tag that --filter %q fits", ref.Familiar(), pattern)
			}
		}
		if rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		for _, tag := range tags {
			refs = append(refs, ref.WithTag(tag))
		}
	}
	return refs, err
}
