package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
)

const repositories = "image/overlay2/repositories.json"

func TestPutImage(t *testing.T) {
	s := openTest(t, t.TempDir())
	img, other := putChain(t, s, "x", 2), putChain(t, s, "y", 1)
	manifest := "host:5000/img@" + digest.FromString("manifest").String()
	if err := s.PutImage(t.Context(), img, "host:5000/img", []string{"host:5000/img:tag", manifest}); err != nil {
		t.Fatal(err)
	}
	content := s.path("image/overlay2/imagedb/content/sha256", img.ID.Encoded())
	if got := read(t, content); got != string(img.Config) {
		t.Errorf("config: %q", got)
	}
	for _, name := range []string{content, s.path(repositories)} {
		if st, err := os.Stat(name); err != nil || st.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	want := fmt.Sprintf(`{"Repositories":{"host:5000/img":{"host:5000/img:tag":"%s","%s":"%[1]s"}}}`, img.ID, manifest)
	if got := read(t, s.path(repositories)); got != want {
		t.Errorf("repositories.json:\n%s, want\n%s", got, want)
	}

	// The tag moves, the digest stays, other repositories are untouched.
	if err := s.PutImage(t.Context(), other, "host:5000/img", []string{"host:5000/img:tag"}); err != nil {
		t.Fatal(err)
	}
	if err := s.PutImage(t.Context(), other, "y", []string{"y:latest"}); err != nil {
		t.Fatal(err)
	}
	want = fmt.Sprintf(`{"Repositories":{"host:5000/img":{"host:5000/img:tag":"%s","%s":"%s"},"y":{"y:latest":"%[1]s"}}}`, other.ID, manifest, img.ID)
	if got := read(t, s.path(repositories)); got != want {
		t.Errorf("repositories.json:\n%s, want\n%s", got, want)
	}
	idle(t, s)
}

// What is there already is not written again: a second pull changes nothing.
func TestPutImageAgain(t *testing.T) {
	s := openTest(t, t.TempDir())
	img := putChain(t, s, "x", 1)
	content := s.path("image/overlay2/imagedb/content/sha256", img.ID.Encoded())
	put := func() [2]time.Time {
		t.Helper()
		if err := s.PutImage(t.Context(), img, "x", []string{"x:latest"}); err != nil {
			t.Fatal(err)
		}
		a, err1 := os.Stat(s.path(repositories))
		b, err2 := os.Stat(content)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return [2]time.Time{a.ModTime(), b.ModTime()}
	}
	if first, second := put(), put(); first != second {
		t.Errorf("written at %v, and again at %v", first, second)
	}
	if err := os.WriteFile(content, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	put()
	if got := read(t, content); got != string(img.Config) {
		t.Errorf("the damaged config was left: %q", got)
	}
}

func TestPutImageWithoutLayers(t *testing.T) {
	s := openTest(t, t.TempDir())
	img := imageOf(t, "x", digest.FromString("missing"))
	before := visible(t, s)
	err := s.PutImage(t.Context(), img, "x", []string{"x:latest"})
	if err == nil || !strings.Contains(err.Error(), img.Layers[0].DiffID.String()) {
		t.Errorf("error: %v", err)
	}
	if after := visible(t, s); after != before {
		t.Errorf("the store changed to\n%s", after)
	}
}

// TestPutImageTogether has many name an image at once: goroutines, two stores
// of this process, and other processes. No name is lost.
func TestPutImageTogether(t *testing.T) {
	s := openTest(t, t.TempDir())
	img := putChain(t, s, "x", 1)
	if err := s.PutImage(t.Context(), img, "repo", nil); err != nil {
		t.Fatal(err)
	}
	const each = 15
	var cs []*child
	for _, name := range []string{"a", "b"} {
		cs = append(cs, start(t, "name", s.dir, img.ID.String(), name, fmt.Sprint(each)))
	}
	for _, c := range cs {
		c.line(t)
		fmt.Fprintln(c.in, "go")
	}
	var wg sync.WaitGroup
	s2 := openTest(t, s.dir)
	for i, store := range []*Store{s, s, s2, s2} {
		wg.Go(func() {
			for n := range each {
				if err := store.PutImage(t.Context(), img, "repo", []string{fmt.Sprintf("repo:%d-%d", i, n)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, c := range cs {
		c.stop(t)
	}
	n, err := s.names()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(n.Repositories["repo"]), 6*each; got != want {
		t.Errorf("%d names, want %d", got, want)
	}
}

func TestPutBlob(t *testing.T) {
	s := openTest(t, t.TempDir())
	diffID := digest.FromString("diff")
	long := digest.SHA512.FromString("blob")
	for range 2 {
		if err := s.PutBlob(t.Context(), long, diffID, "host:5000/img"); err != nil {
			t.Fatal(err)
		}
	}
	dist := s.path("image/overlay2/distribution")
	infos := dist + "/v2metadata-by-diffid/sha256/" + diffID.Encoded()
	byDigest := dist + "/diffid-by-digest/sha512/" + long.Encoded()
	if got := read(t, byDigest); got != diffID.String() {
		t.Errorf("diffid-by-digest: %q", got)
	}
	want := fmt.Sprintf(`[{"Digest":"%s","SourceRepository":"host:5000/img","HMAC":""}]`, long)
	if got := read(t, infos); got != want {
		t.Errorf("v2metadata-by-diffid:\n%s, want\n%s", got, want)
	}
	for _, name := range []string{infos, byDigest} {
		if st, err := os.Stat(name); err != nil || st.Mode() != 0o644 {
			t.Errorf("%s: %v %v", name, st.Mode(), err)
		}
	}

	// The newest fifty are kept, the one that was used last comes last.
	for i := range 60 {
		if err := s.PutBlob(t.Context(), digest.FromString("blob"), diffID, fmt.Sprintf("repo%d", i%55)); err != nil {
			t.Fatal(err)
		}
	}
	var list []blobInfo
	if err := json.Unmarshal([]byte(read(t, infos)), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 50 || list[49].SourceRepository != "repo4" || list[0].SourceRepository != "repo10" {
		t.Errorf("%d entries: %v", len(list), list)
	}

	// It is a cache: what cannot be read is written anew.
	if err := os.WriteFile(infos, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.PutBlob(t.Context(), long, diffID, "host:5000/img"); err != nil || read(t, infos) != want {
		t.Errorf("%v, %s", err, read(t, infos))
	}
	idle(t, s)
}

func TestFind(t *testing.T) {
	s := openTest(t, t.TempDir())
	img, other := putChain(t, s, "x", 1), putChain(t, s, "y", 1)
	name := "host:5000/img@" + digest.FromString("manifest").String()
	if err := s.PutImage(t.Context(), img, "host:5000/img", []string{"host:5000/img:tag", name}); err != nil {
		t.Fatal(err)
	}
	if err := s.PutImage(t.Context(), other, "other", nil); err != nil {
		t.Fatal(err)
	}
	// A name wins over an ID that begins like it.
	if err := s.PutImage(t.Context(), other, "dead", []string{img.ID.Encoded()[:6]}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		want digest.Digest
	}{
		{"host:5000/img:tag", img.ID}, {name, img.ID}, {img.ID.String(), img.ID}, {img.ID.Encoded()[:12], img.ID},
		{"sha256:" + other.ID.Encoded()[:4], other.ID}, {img.ID.Encoded()[:6], other.ID},
	} {
		got, err := s.Find(tc.name)
		if err != nil || got.ID != tc.want {
			t.Errorf("Find(%s): %v, %v", tc.name, got, err)
		}
	}
	for _, name := range []string{"host:5000/img:none", "host:5000/img", img.ID.Encoded()[:3], "", "zzzz"} {
		if _, err := s.Find(name); fault.KindOf(err) != fault.NotFound || fault.HintOf(err) == "" {
			t.Errorf("Find(%q): %v", name, err)
		}
	}
	if id, err := s.ID("host:5000/img:none"); id != "" || err != nil {
		t.Errorf("ID of a name that is not there: %q, %v", id, err)
	}

	list, err := s.Images()
	if err != nil || len(list) != 2 {
		t.Fatalf("Images: %v, %v", list, err)
	}
	for _, i := range list {
		if i.ID == img.ID && fmt.Sprint(i.Names) != fmt.Sprint([]string{"host:5000/img:tag", name}) {
			t.Errorf("names: %q", i.Names)
		}
	}
}

// Two images whose IDs begin alike are told apart, or it is said that they cannot
// be. Such IDs are looked for.
func TestFindAmbiguous(t *testing.T) {
	s := openTest(t, t.TempDir())
	seen := make(map[string]string)
	for i := 0; ; i++ {
		label := fmt.Sprint(i)
		prefix := imageOf(t, label).ID.Encoded()[:4]
		if first, ok := seen[prefix]; ok {
			for _, l := range []string{first, label} {
				if err := s.PutImage(t.Context(), imageOf(t, l), "x", nil); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.Find(prefix); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "2 images") {
				t.Errorf("Find: %v", err)
			}
			return
		}
		seen[prefix] = label
	}
}

// TestDamagedImages: one config that cannot be read hides neither the others nor
// itself.
func TestDamagedImages(t *testing.T) {
	s := openTest(t, t.TempDir())
	good, bad := putChain(t, s, "x", 1), putChain(t, s, "y", 1)
	for _, img := range []struct {
		name string
		id   digest.Digest
	}{{"good", good.ID}, {"bad", bad.ID}} {
		i := good
		if img.id == bad.ID {
			i = bad
		}
		if err := s.PutImage(t.Context(), i, img.name, []string{img.name + ":latest"}); err != nil {
			t.Fatal(err)
		}
	}
	content := s.path("image/overlay2/imagedb/content/sha256")
	if err := errors.Join(
		os.WriteFile(content+"/"+bad.ID.Encoded(), []byte("{}"), 0o600),
		os.WriteFile(content+"/.tmp-"+good.ID.Encoded(), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	list, err := s.Images()
	if len(list) != 1 || list[0].ID != good.ID || fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), bad.ID.Encoded()) {
		t.Errorf("Images: %v, %v", list, err)
	}
	if img, err := s.Find("good:latest"); err != nil || img.ID != good.ID {
		t.Errorf("the good one: %v", err)
	}
	if _, err := s.Find("bad:latest"); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("the bad one: %v", err)
	}
	if _, err := s.Image(digest.FromString("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is not there: %v", err)
	}
	if _, err := s.Image("nonsense"); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("an ID that is none: %v", err)
	}

	if err := os.WriteFile(s.path(repositories), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.PutImage(t.Context(), good, "good", []string{"good:other"}); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("PutImage over lists that cannot be read: %v", err)
	}
	if got := read(t, s.path(repositories)); got != "{" {
		t.Errorf("the lists were replaced by %q", got)
	}
	// Docker writes null for a list without anything.
	if err := os.WriteFile(s.path(repositories), []byte(`{"Repositories":null}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.PutImage(t.Context(), good, "good", []string{"good:other"}); err != nil {
		t.Error(err)
	}
}
