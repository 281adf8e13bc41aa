package registry

import (
	"context"
	"net/http"
	"slices"

	"github.com/fastpull/fastpull/internal/jsonlimit"
)

const (
	maxTags     = 1 << 20 // of one repository
	maxTagPages = 10_000
	tagsAtOnce  = "?n=1000"
)

// Tags lists the tags of the repository of ref that can be pulled, in the order of their
// bytes. It asks for all pages, in the size that the registry chooses.
//
// Errors are of kind [fault.NotFound] if there is no such repository, [fault.Denied] if
// credentials are missing, and [fault.Corrupt] for an answer that is no list, or an endless
// one.
func (c *Client) Tags(ctx context.Context, ref Reference) (tags []string, err error) {
	e := errand{
		ref: ref, doing: "list the tags of " + ref.Familiar(), missing: "no such repository",
		advice: "check the name; for some registries a repository that you may not see does not exist",
	}
	for p := c.patience(); ; {
		err := c.each(ctx, ref, true, func(h *host) (err error) {
			tags, err = c.tagsAt(p.bear(ctx), h, ref)
			return err
		})
		if err == nil {
			slices.Sort(tags)
			return slices.Compact(tags), nil
		}
		if err = p.again(ctx, err); err != nil {
			return nil, e.explain(err)
		}
	}
}

// tagsAt asks one host for all pages.
func (c *Client) tagsAt(ctx context.Context, h *host, ref Reference) (tags []string, err error) {
	seen := map[string]bool{}
	for query := tagsAtOnce; query != ""; {
		if seen[query] || len(seen) == maxTagPages || len(tags) > maxTags {
			return nil, corrupt("the registry's list does not end: more than %d tags on %d pages", len(tags), len(seen))
		}
		seen[query] = true
		page, next, err := c.tagsPage(ctx, h, ref, query)
		if err != nil {
			return nil, err
		}
		tags = append(tags, page...)
		query = next
	}
	return tags, nil
}

// tagsPage asks one host for one page, and returns the query of the next one.
func (c *Client) tagsPage(ctx context.Context, h *host, ref Reference, query string) (tags []string, next string, err error) {
	resp, err := c.getAt(ctx, h, ref, "/tags/list"+query, http.Header{"Accept": {"application/json"}})
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	data, err := readDocument(resp, "a page of the list", c.opt.ManifestLimit)
	if err != nil {
		return nil, "", err
	}
	var list struct{ Tags []string }
	if err := jsonlimit.Unmarshal(data, &list); err != nil {
		return nil, "", corrupt("the list cannot be read: %w", err)
	}
	for _, tag := range list.Tags {
		if tagPattern.MatchString(tag) {
			tags = append(tags, tag)
		}
	}
	return tags, nextPage(resp.Header), nil
}
