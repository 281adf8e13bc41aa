package registry

import (
	_ "crypto/sha256" // digests of both kinds are verified
	_ "crypto/sha512"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
)

// The grammar is that of distribution/reference, which is what Docker accepts. The one of
// go-containerregistry is wider: "../x" would be a repository.
var (
	hostPattern   = wholeText(reference.DomainRegexp)
	tagPattern    = wholeText(reference.TagRegexp)
	digestPattern = regexp.MustCompile(`^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$`)
	idPattern     = wholeText(reference.IdentifierRegexp)
)

// wholeText returns the expression for all of a text.
func wholeText(e *regexp.Regexp) *regexp.Regexp {
	return regexp.MustCompile(`^(?:` + e.String() + `)$`)
}

// maxNameLen is the longest name, host included, that Docker takes.
const maxNameLen = 255

// Reference is a parsed image name. It is comparable; the zero value names
// nothing.
type Reference struct {
	repo   name.Repository
	tag    string
	digest digest.Digest
}

// ParseReference parses an image name in the form of docker pull: name, name:tag, name@digest or
// name:tag@digest. Without a host, the name is one of Docker Hub. Without a tag and a digest,
// the tag is "latest". The error for an invalid name is of kind [fault.Usage].
func ParseReference(s string) (Reference, error) {
	bad := func(why string) (Reference, error) {
		return Reference{}, fault.New(fault.Usage, "image name %q: %s", s, why)
	}
	for _, scheme := range []string{"https://", "http://", "docker://"} {
		if rest, ok := strings.CutPrefix(s, scheme); ok {
			_, err := bad("a name has no scheme")
			return Reference{}, fault.WithHint(err, "write it without %s: %q", scheme, rest)
		}
	}

	base, dig, hasDigest := strings.Cut(s, "@")
	if hasDigest && !digestPattern.MatchString(dig) {
		return bad("what follows the @ is not a digest (sha256: and 64 hex digits, or sha512: and 128)")
	}
	tag := ""
	if i := strings.LastIndexByte(base, ':'); i >= 0 && !strings.Contains(base[i:], "/") {
		base, tag = base[:i], base[i+1:]
		if !tagPattern.MatchString(tag) {
			return bad("the tag may have up to 128 letters, digits, '_', '.' and '-', and does not begin with the last two")
		}
	}
	if tag == "" && !hasDigest {
		tag = name.DefaultTag
	}

	host, path := splitHost(base)
	_, err := reference.WithName(name.DefaultRegistry + "/" + path)
	switch {
	case base == "":
		return bad("no repository is named")
	case idPattern.MatchString(base):
		return bad("this is the ID of an image, not a name")
	case !hostPattern.MatchString(host):
		return bad("the registry's host is not one")
	case !portFits(host):
		return bad("a port is a number from 1 to 65535")
	case path != strings.ToLower(path):
		return bad("the repository has to be in lower case")
	case errors.Is(err, reference.ErrReferenceInvalidFormat):
		return bad("the repository may have lower case letters and digits, with single '.', '_', '__', '-' and '/' between them")
	case len(host)+1+len(path) > maxNameLen:
		return bad("longer than 255 characters")
	}
	reg, err := name.NewRegistry(host)
	if err != nil {
		return bad(err.Error())
	}
	if reg.RegistryStr() == name.DefaultRegistry && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	return Reference{repo: reg.Repo(path), tag: tag, digest: digest.Digest(dig)}, nil
}

// portFits reports whether the port of a host is one, if it has any.
func portFits(hostport string) bool {
	_, port, ok := cutPort(hostport)
	n, err := strconv.ParseUint(port, 10, 16)
	return !ok || err == nil && n > 0
}

// splitHost tells a host from the first folder of a repository as Docker does:
// by a dot, a colon, a capital letter, or the word localhost.
func splitHost(s string) (host, path string) {
	first, rest, found := strings.Cut(s, "/")
	if found && (strings.ContainsAny(first, ".:") || first == "localhost" || strings.ToLower(first) != first) {
		return first, rest
	}
	return name.DefaultRegistry, s
}

// String returns the whole name as short as Docker prints it: "ubuntu:22.04",
// "host:5000/img:tag", "name:tag@sha256:…". Parsing it gives r again.
func (r Reference) String() string {
	s := r.Familiar()
	if r.tag != "" {
		s += ":" + r.tag
	}
	if r.digest != "" {
		s += "@" + r.digest.String()
	}
	return s
}

// Full returns the repository with its registry, as Docker's distribution metadata names
// it: docker.io/library/ubuntu.
func (r Reference) Full() string {
	host := r.Host()
	if host == "index.docker.io" { // what go-containerregistry calls Docker Hub
		host = "docker.io"
	}
	return host + "/" + r.Repository()
}

// FullTag returns the repository with its registry, and the tag:
// docker.io/library/ubuntu:22.04. It is "" if there is no tag.
func (r Reference) FullTag() string {
	if r.tag == "" {
		return ""
	}
	return r.Full() + ":" + r.tag
}

// FamiliarTags returns the tag, if there is one, as Docker writes it: ubuntu:22.04.
func (r Reference) FamiliarTags() []string {
	if r.tag == "" {
		return nil
	}
	return []string{r.Familiar() + ":" + r.tag}
}

// Familiar returns the repository without tag and digest, as Docker writes it:
// "ubuntu", "host:5000/img".
func (r Reference) Familiar() string {
	if r.Host() != name.DefaultRegistry {
		return r.repo.Name()
	}
	path := r.Repository()
	if rest, ok := strings.CutPrefix(path, "library/"); ok && !strings.Contains(rest, "/") {
		return rest
	}
	return path
}

// Tag returns the tag, or "" when the reference has only a digest.
func (r Reference) Tag() string { return r.tag }

// Digest returns the digest, or "" when the reference has none.
func (r Reference) Digest() digest.Digest { return r.digest }

// WithTag returns the reference to a tag of r's repository.
func (r Reference) WithTag(tag string) Reference { return Reference{repo: r.repo, tag: tag} }

// WithDigest returns the reference to what has the digest in r's repository.
func (r Reference) WithDigest(d digest.Digest) Reference { return Reference{repo: r.repo, digest: d} }

// Host returns the registry as it is contacted, with its port if one was
// given. That of Docker Hub is "index.docker.io".
func (r Reference) Host() string { return r.repo.RegistryStr() }

// Repository returns the path of the repository at its host, such as
// "library/ubuntu".
func (r Reference) Repository() string { return r.repo.RepositoryStr() }

// checkDigest keeps anything but a well-formed digest out of addresses.
func checkDigest(d digest.Digest) error {
	if !digestPattern.MatchString(string(d)) {
		return corrupt("%q is not a digest that can be checked (sha256 or sha512)", cut(string(d), 100))
	}
	return nil
}
