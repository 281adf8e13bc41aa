package bundle

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestDigestOf shows that the names of blobs are read as they are written.
func TestDigestOf(t *testing.T) {
	for _, d := range []digest.Digest{digest.FromString("a"), digest.SHA512.FromString("a")} {
		if got, is := digestOf(blobName(d)); got != d || !is {
			t.Errorf("%s: %q, %t", blobName(d), got, is)
		}
	}
	name := blobName(digest.FromString("a"))
	for in, want := range map[string]bool{
		"index.json": false, "blobs": false, "a/" + name: false, strings.TrimPrefix(name, "blobs/"): false,
		"blobs/": true, "blobs/sha256": true, "blobs/sha256/x": true, name + "/x": true, strings.ToUpper(name[6:]): false,
		strings.Replace(name, "sha256", "sha1", 1): true,
	} {
		if got, is := digestOf(in); got != "" || is != want {
			t.Errorf("%s: %q, %t", in, got, is)
		}
	}
}

func TestMemberName(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a", "./a": "a", "a/b/": "a/b", ".": ".", "./": ".", "": ".", "/": ".",
		"/a": "", "../a": "", "a/../b": "", "a//b": "", `a\b`: "", ".//a": "",
	} {
		got, err := memberName(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}
