package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/system"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// containerdInfo is what an Engine with containerd's store says of itself.
var containerdInfo = system.Info{DriverStatus: [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}}

func TestTellsManifests(t *testing.T) {
	for _, tc := range []struct {
		api  string
		info system.Info
		want bool
	}{
		{"1.44", containerdInfo, false},
		{"1.47", containerdInfo, false},
		{"1.48", containerdInfo, true},
		{"1.52", containerdInfo, true},
		{"1.52", system.Info{}, false},
	} {
		e := dialFake(t, &fake{api: tc.api, info: tc.info})
		if got := e.TellsManifests(); got != tc.want {
			t.Errorf("API %s, %v: %v", tc.api, tc.info.DriverStatus, got)
		}
	}
}

// variant is a manifest as an Engine tells of it.
func variant(d digest.Digest, complete bool, unpacked int64) map[string]any {
	return map[string]any{
		"ID": d, "Available": complete, "Kind": "image",
		"Descriptor": ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: 7, Annotations: map[string]string{"k": d.String()}},
		"ImageData":  map[string]any{"Platform": ocispec.Platform{OS: "linux", Architecture: "s390x"}, "Size": map[string]any{"Unpacked": unpacked}},
	}
}

func TestStored(t *testing.T) {
	whole, torn, packed, pseudo := digest.FromString("whole"), digest.FromString("torn"), digest.FromString("packed"), digest.FromString("pseudo")
	layers := map[digest.Digest][]digest.Digest{
		whole: {digest.FromString("a"), digest.FromString("b")}, torn: {digest.FromString("c")}, packed: {digest.FromString("d")},
	}
	var removed []string
	e := dialFake(t, &fake{api: "1.52", info: containerdInfo, images: func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/images/"), "/json")
		id := digest.Digest(name)
		if name == "host:5000/img:tag" {
			id = whole
		}
		switch {
		case r.Method == http.MethodDelete && id == torn:
			fail(w, http.StatusConflict, "a container uses it")
		case r.Method == http.MethodDelete && layers[id] == nil:
			fail(w, http.StatusNotFound, "No such image")
		case r.Method == http.MethodDelete:
			removed = append(removed, id.String())
			fmt.Fprint(w, "[]")
		case r.URL.Path == "/images/json":
			json.NewEncoder(w).Encode([]map[string]any{{"Id": whole}, {"Id": torn}, {"Id": packed}})
		case layers[id] == nil:
			fail(w, http.StatusNotFound, "No such image")
		case r.URL.Query().Get("manifests") != "1":
			fail(w, http.StatusBadRequest, "did not ask for manifests")
		default:
			json.NewEncoder(w).Encode(map[string]any{
				"Id": id, "RootFS": map[string]any{"Type": "layers", "Layers": layers[id]},
				"Descriptor": ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: id, Size: 3},
				"Metadata":   map[string]any{"LastTagTime": time.Unix(1e9, 0)},
				"Manifests": []any{
					map[string]any{"ID": pseudo, "Available": true, "Kind": "unknown", "Descriptor": ocispec.Descriptor{Digest: pseudo}},
					variant(id, id != torn, map[digest.Digest]int64{whole: 4096, torn: 4096}[id]),
				},
			})
		}
	}})

	s, err := e.Stored(t.Context(), "host:5000/img:tag")
	if err != nil {
		t.Fatal(err)
	}
	v := s.Variant(whole)
	if s.Target.Digest != whole || s.Target.Size != 3 || !s.Touched.Equal(time.Unix(1e9, 0)) || !v.Usable() ||
		v.Platform.Architecture != "s390x" || v.Descriptor.Annotations["k"] != whole.String() {
		t.Errorf("%+v", s)
	}
	if v := s.Variant(pseudo); !v.Complete || v.Unpacked || v.Usable() {
		t.Errorf("what is no image: %+v", v)
	}
	if v := s.Variant(torn); v.Complete || v.Descriptor.Digest != "" {
		t.Errorf("no manifest of it: %+v", v)
	}
	if s, err := e.Stored(t.Context(), "host:5000/none:tag"); s != nil || err != nil {
		t.Errorf("of an image that is not there: %+v, %v", s, err)
	}

	// Only the layers of images that are whole may be left out of an archive.
	all, err := e.Inventory(t.Context())
	if err != nil || len(all.Stored) != 3 || len(all.Chains) != 2 {
		t.Errorf("%v, %v", all, err)
	}
	for _, c := range identity.ChainIDs(slices.Clone(layers[whole])) {
		if !all.Chains[c] {
			t.Errorf("chain %s is not there", c)
		}
	}

	if err := e.Remove(t.Context(), whole); err != nil || !slices.Equal(removed, []string{whole.String()}) {
		t.Errorf("removed %v: %v", removed, err)
	}
	if err := e.Remove(t.Context(), digest.FromString("none")); err != nil {
		t.Errorf("remove what is not there: %v", err)
	}
	if err := e.Remove(t.Context(), torn); err == nil || !strings.Contains(err.Error(), "a container uses it") {
		t.Errorf("remove what is in use: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Remove(ended, packed); err != nil || len(removed) != 2 {
		t.Errorf("remove after the end: %v", err)
	}
}

func TestTryContainer(t *testing.T) {
	id := digest.FromString("1")
	var asked []string
	e := dialFake(t, &fake{api: "1.44", info: containerdInfo, images: func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.Method+" "+r.URL.Path)
		switch {
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case !strings.Contains(string(body), id.String()):
			fail(w, http.StatusNotFound, "No such image")
		default:
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"Id":"abcdef"}`)
		}
	}})
	if err := e.TryContainer(t.Context(), id, nil); err != nil {
		t.Error(err)
	}
	if want := []string{"POST /containers/create", "DELETE /containers/abcdef"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	if err := e.TryContainer(t.Context(), digest.FromString("2"), nil); fault.KindOf(err) != fault.NotFound {
		t.Errorf("of no image: %v", err)
	}
}
