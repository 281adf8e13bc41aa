package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// signature is a manifest that refers to subject, with one blob.
func signature(subject digest.Digest, blob string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"a/b","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},`+
		`"layers":[{"mediaType":"text/plain","digest":%q,"size":%d}],"subject":{"mediaType":%[1]q,"digest":%[5]q,"size":7}}`,
		ocispec.MediaTypeImageManifest, digest.FromString("{}"), digest.FromString(blob), len(blob), subject)
}

// TestReferrers has what refers to images in bundles: of ours and of others, and such
// that is not to be believed.
func TestReferrers(t *testing.T) {
	subject := digest.FromString("subject")
	for _, tc := range []struct {
		name      string
		doc       string
		entry     Entry
		strip     bool // what others write: no annotations
		noBlob    bool
		referrers int
		say       string // in the error of Open, or of Verify
	}{
		{name: "ours", doc: signature(subject, "blob"), entry: Entry{Source: "host:5000/img@" + subject.String(), Subject: subject}, referrers: 1},
		{name: "cosign's", doc: signature(subject, "blob"), entry: Entry{Subject: subject, Tag: CosignTags(subject)[1]}, referrers: 1},
		{name: "of others", doc: signature(subject, "blob"), strip: true, referrers: 1},
		{name: "another's tag", doc: signature(subject, "blob"), entry: Entry{Subject: subject, Tag: "latest"}, say: `the tag "latest"`},
		{name: "no digest", doc: signature(subject, "blob"), entry: Entry{Subject: "sha256:../x"}, say: "which is no digest"},
		{name: "no manifest", doc: `{"mediaType":"` + ocispec.MediaTypeImageManifest + `"}`, entry: Entry{Subject: subject}, say: "not what its type says"},
		{name: "a blob is missing", doc: signature(subject, "blob"), entry: Entry{Subject: subject}, noBlob: true, referrers: 1, say: "is missing in it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b bytes.Buffer
			w := NewWriter(&b)
			addWhole(t, w, "host:5000/one:tag", layerOf("base", ""))
			add(t, w, "{}")
			if !tc.noBlob {
				add(t, w, "blob")
			}
			add(t, w, tc.doc)
			tc.entry.Descriptor = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(tc.doc), Size: int64(len(tc.doc)),
				Annotations: map[string]string{annotationName: "evil:1", annotationContainerd: "evil:1"}}
			d := tc.entry.Annotated()
			if tc.strip {
				d.Annotations = nil
			}
			w.Entry(d)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			r, err := openBytes(t, b.Bytes())
			if err == nil {
				if len(r.Entries()) != 1 || len(r.Referrers()) != tc.referrers || r.Entries()[0].Name != "host:5000/one:tag" {
					t.Errorf("images %+v, referrers %+v", r.Entries(), r.Referrers())
				}
				for _, e := range r.Referrers() {
					if e.Subject != subject || e.Name != "" {
						t.Errorf("%+v", e)
					}
				}
				l, lerr := r.List()
				if lerr != nil || len(l.Images) != 1 || len(l.Referrers) != 1 || l.Referrers[0].ArtifactType != "a/b" || l.Referrers[0].Size != int64(len(tc.doc))+6 {
					data, _ := json.Marshal(l)
					t.Errorf("%v: %s", lerr, data)
				}
				err = r.Verify(t.Context(), VerifyOptions{DiffIDs: true})
			}
			if (err == nil) != (tc.say == "") || err != nil && (fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), tc.say)) {
				t.Errorf("error: %v", err)
			}
		})
	}
}

func TestRepository(t *testing.T) {
	for want, e := range map[string]Entry{
		"host:5000/team/img": {Source: "host:5000/team/img:1.2@sha256:aa"},
		"host:5000/img":      {Source: "host:5000/img@sha256:aa"},
		"docker.io/app":      {Name: "docker.io/app:1"},
		"":                   {},
	} {
		if got := e.Repository(); got != want {
			t.Errorf("%+v: %q, want %q", e, got, want)
		}
	}
}
