package pull

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/fetch"
	"github.com/fastpull/fastpull/internal/partial"
)

// planned is what a dry run says of a layer.
func planned(t *testing.T, l v1.Layer, from string, shared bool) PlannedLayer {
	t.Helper()
	size, err := l.Size()
	if err != nil {
		t.Fatal(err)
	}
	return PlannedLayer{Digest: digest.Digest(blobOf(l)), Size: size, From: from, Shared: shared}
}

// A dry run knows what is there, what several images share, and fetches no
// layer.
func TestPlanStore(t *testing.T) {
	s := serve(t)
	a, b, c := noise(t, "a", 1<<10), noise(t, "b", 2<<10), noise(t, "c", 3<<10)
	had := s.push(t, "had:1", a)
	one, two := s.push(t, "one:1", a, b), s.push(t, "two:1", b, c)
	dir := filepath.Join(t.TempDir(), "store")
	if _, err := pull(t, t.Context(), storeOptions(dir, had)); err != nil {
		t.Fatal(err)
	}
	before := paths(t, dir)
	s.reset()

	o := storeOptions(dir, had, one)
	o.DryRun = true
	sum, err := pull(t, t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r := sum.Images[0]; r.Status != Exists || !reflect.DeepEqual(r.Plan, []PlannedLayer{planned(t, a, "", false)}) {
		t.Errorf("the image that is there: %+v", r)
	}
	r := sum.Images[1]
	if want := []PlannedLayer{planned(t, a, "", false), planned(t, b, s.host, false)}; r.Status != Planned || r.From != s.host || !reflect.DeepEqual(r.Plan, want) {
		t.Errorf("got %+v, want %+v", r, want)
	}
	if want := r.Plan[1].Size; sum.BytesToFetch == nil || *sum.BytesToFetch != want || sum.BytesFetched != 0 {
		t.Errorf("%v bytes to fetch, want %d; %d fetched", sum.BytesToFetch, want, sum.BytesFetched)
	}

	o = storeOptions(filepath.Join(t.TempDir(), "none"), one, two)
	o.DryRun = true
	if sum, err = pull(t, t.Context(), o); err != nil {
		t.Fatal(err)
	}
	// Which of the two brings what they share is open.
	shared := 0
	for _, l := range append(sum.Images[0].Plan, sum.Images[1].Plan...) {
		if (l.From == "") != l.Shared {
			t.Errorf("layer %+v", l)
		}
		if l.Shared {
			shared++
		}
	}
	want := planned(t, a, "", false).Size + planned(t, b, "", false).Size + planned(t, c, "", false).Size
	if shared != 1 || *sum.BytesToFetch != want {
		t.Errorf("%d layers shared, %d bytes to fetch; want 1 and %d", shared, *sum.BytesToFetch, want)
	}
	if _, err := os.Stat(o.Path); err == nil {
		t.Error("a dry run made the store")
	}
	if got := paths(t, dir); !reflect.DeepEqual(got, before) {
		t.Errorf("a dry run changed the store:\n%v\n%v", before, got)
	}
	for _, l := range []v1.Layer{a, b, c} {
		if n := s.got(blobOf(l)); n != 0 {
			t.Errorf("layer %s was fetched %d times", blobOf(l), n)
		}
	}
}

// A dry run changes nothing in an Engine. With containerd's store it knows an image by its
// digest in the registry.
func TestPlanEngine(t *testing.T) {
	for _, start := range []func(*testing.T) *engine{startEngine, startContainerd} {
		s, e := serve(t), start(t)
		a, b := noise(t, "a", 1<<10), noise(t, "b", 1<<10)
		had, ref := s.push(t, "had:1", a), s.push(t, "img:1", a, b)
		if _, err := pull(t, t.Context(), e.options(had)); err != nil {
			t.Fatal(err)
		}
		loads := e.loads
		delete(e.tags, had.String())
		o := e.options(ref, had)
		o.DryRun = true
		sum, err := pull(t, t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if want := []PlannedLayer{planned(t, a, "", false), planned(t, b, s.host, false)}; !reflect.DeepEqual(sum.Images[0].Plan, want) {
			t.Errorf("got %+v, want %+v", sum.Images[0].Plan, want)
		}
		if sum.Images[1].Status != Exists || !reflect.DeepEqual(sum.Images[1].Plan, []PlannedLayer{planned(t, a, "", false)}) {
			t.Errorf("the image that is there: %+v", sum.Images[1])
		}
		if len(e.tags) != 0 || e.loads != loads {
			t.Errorf("a dry run changed the Engine: %v, %d loads", e.tags, e.loads-loads)
		}
	}
}

// What an earlier pull has fetched of a layer is told, and stays as it is.
func TestPlanKept(t *testing.T) {
	s := serve(t)
	a := noise(t, "a", 3<<20)
	ref := s.push(t, "img:1", a)
	dir := t.TempDir()
	want := planned(t, a, s.host, false)
	kept, err := partial.In(fetch.PartialDir(dir)).Open(want.Digest, want.Size)
	if err != nil {
		t.Fatal(err)
	}
	if mine, err := kept.Own(); !mine || err != nil {
		t.Fatal(mine, err)
	}
	want.Kept = 5 * partial.Block
	if _, err := kept.Writer(0).Write(make([]byte, want.Kept+1)); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * partial.Forgotten)
	if err := errors.Join(kept.Close(), os.Chtimes(filepath.Join(fetch.PartialDir(dir), want.Digest.String()), long, long)); err != nil {
		t.Fatal(err)
	}
	before := paths(t, dir)

	o := storeOptions(dir, ref)
	o.DryRun = true
	sum, err := pull(t, t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := sum.Images[0].Plan; !reflect.DeepEqual(got, []PlannedLayer{want}) || *sum.BytesToFetch != want.Size-want.Kept {
		t.Errorf("got %+v and %d bytes to fetch, want %+v", got, *sum.BytesToFetch, want)
	}
	if got := paths(t, dir); !reflect.DeepEqual(got, before) {
		t.Errorf("a dry run changed the store:\n%v\n%v", before, got)
	}
}

func TestPlanOther(t *testing.T) {
	s := serve(t)
	ref := s.push(t, "img:1", noise(t, "a", 1<<10))
	dir := t.TempDir()
	for _, o := range []to{
		archiveOptions(filepath.Join(dir, "out.tar"), ref), rootfsOptions(filepath.Join(dir, "root"), ref),
		{Kind: "", Host: "unix://" + dir + "/none.sock", Path: filepath.Join(dir, "store"), Options: Options{References: archiveOptions("", ref).References}},
	} {
		o.DryRun = true
		sum, err := pull(t, t.Context(), o)
		if err != nil || sum.Images[0].Plan[0].From != s.host {
			t.Errorf("%s: %+v, %v", o.Path, sum.Images, err)
		}
	}
	if list := entries(t, dir); list != "" {
		t.Errorf("a dry run made %s", list)
	}
}

// An image whose layer is missing at the registry is found out without a pull.
func TestPlanMissing(t *testing.T) {
	s := serve(t)
	whole, lost := noise(t, "a", 1<<10), noise(t, "b", 1<<10)
	good, bad := s.push(t, "good:1", whole), s.push(t, "bad:1", whole, lost)
	inner := s.handler
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, blobOf(lost)) {
			http.NotFound(w, r)
			return
		}
		inner.ServeHTTP(w, r)
	})
	o := storeOptions(filepath.Join(t.TempDir(), "store"), good, bad)
	o.DryRun, o.KeepGoing = true, true
	sum, err := pull(t, t.Context(), o)
	if err == nil || sum.Images[0].Status != Planned || sum.Images[1].Status != Failed || fault.KindOf(sum.Images[1].Err) != fault.NotFound {
		t.Errorf("%v: %+v", err, sum.Images)
	}
}
