package doctor

import (
	"regexp"
	"slices"
)

// A report is made to be sent to others. Nothing of it is made of credentials, but
// words of other programs and addresses that a user configured pass through it.
var (
	userOfURL  = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^/?#\s"']*@`)
	queryOfURL = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^?\s"']*)\?[^\s"']*`)
)

// withoutSecrets returns text without users, passwords and queries of addresses.
func withoutSecrets(text string) string {
	text = userOfURL.ReplaceAllString(text, "${1}")
	return queryOfURL.ReplaceAllString(text, "${1}?…")
}

// withoutSecrets does it for all of a finding.
func (f Finding) withoutSecrets() Finding {
	f.What, f.Text = withoutSecrets(f.What), withoutSecrets(f.Text)
	f.Fix = slices.Clone(f.Fix)
	for i := range f.Fix {
		f.Fix[i] = withoutSecrets(f.Fix[i])
	}
	if f.Facts == nil {
		return f
	}
	facts := make(map[string]any, len(f.Facts))
	for key, value := range f.Facts {
		switch v := value.(type) {
		case string:
			value = withoutSecrets(v)
		case []string:
			list := slices.Clone(v)
			for i := range list {
				list[i] = withoutSecrets(list[i])
			}
			value = list
		}
		facts[key] = value
	}
	f.Facts = facts
	return f
}
