package pull

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// contentStore does what an Engine does with containerd's store: content, snapshots, names,
// and garbage collection by what refers to what.
type contentStore struct {
	blobs     map[digest.Digest][]byte
	names     map[string]ocispec.Descriptor
	snapshots map[digest.Digest]bool          // chainIDs
	keeps     map[digest.Digest]digest.Digest // the snapshot that a config keeps

	unzipped   int                            // layers that it had to decompress
	containers int                            // that were created
	drops      func(digest.Digest) bool       // blobs that it loses as they come
	empty      bool                           // snapshots take no room
	stays      bool                           // what is removed, as if nobody had asked
	touched    time.Time                      // when images got their names, now if zero
	fails      func(chain digest.Digest) bool // to unpack
}

// startContainerd starts an Engine with containerd's store.
func startContainerd(t *testing.T) *engine {
	t.Helper()
	e := startEngine(t)
	e.api = "1.52"
	e.store = &contentStore{
		blobs: make(map[digest.Digest][]byte), names: make(map[string]ocispec.Descriptor),
		snapshots: make(map[digest.Digest]bool), keeps: make(map[digest.Digest]digest.Digest),
		drops: func(digest.Digest) bool { return false }, fails: func(digest.Digest) bool { return false },
	}
	return e
}

// dangling is the name of an image without one.
func dangling(d digest.Digest) string { return "moby-dangling@" + d.String() }

// load imports an OCI layout and unpacks what is for this machine.
func (c *contentStore) load(w http.ResponseWriter, files map[string][]byte) error {
	if files[ocispec.ImageLayoutFile] == nil {
		return fmt.Errorf("no OCI layout: Docker's own archives can lead to gzip")
	}
	for _, data := range files {
		if d := digest.FromBytes(data); !c.drops(d) {
			c.blobs[d] = data
		}
	}
	var index ocispec.Index
	if err := json.Unmarshal(files[ocispec.ImageIndexFile], &index); err != nil {
		return err
	}
	for _, d := range index.Manifests {
		name := d.Annotations["io.containerd.image.name"]
		if name == "" {
			name = dangling(d.Digest)
		}
		if old, ok := c.names[name]; ok && old.Digest != d.Digest {
			c.names[dangling(old.Digest)] = old
		}
		c.names[name] = d
		stream(w, "Loaded image: "+name)
		for _, m := range c.manifests(d) {
			if m.Platform != nil && m.Platform.OS == "unknown" || c.blobs[m.Digest] == nil {
				continue
			}
			if err := c.unpack(m.Digest); err != nil {
				stream(w, fmt.Sprintf("Error unpacking image %s: %v", name, err))
				break
			}
		}
	}
	c.collect()
	return nil
}

func stream(w http.ResponseWriter, text string) {
	json.NewEncoder(w).Encode(map[string]string{"stream": text + "\n"})
}

// manifests are those that a descriptor leads to, as far as they are there.
func (c *contentStore) manifests(d ocispec.Descriptor) []ocispec.Descriptor {
	if !strings.Contains(d.MediaType, "index") && !strings.Contains(d.MediaType, "list") {
		return []ocispec.Descriptor{d}
	}
	var index ocispec.Index
	_ = json.Unmarshal(c.blobs[d.Digest], &index)
	return index.Manifests
}

// parts are the manifest with a digest, and the diffIDs of its config.
func (c *contentStore) parts(d digest.Digest) (m ocispec.Manifest, diffIDs []digest.Digest) {
	var config ocispec.Image
	_ = json.Unmarshal(c.blobs[d], &m)
	_ = json.Unmarshal(c.blobs[m.Config.Digest], &config)
	return m, config.RootFS.DiffIDs
}

func (c *contentStore) unpack(d digest.Digest) error {
	m, diffIDs := c.parts(d)
	top := identity.ChainID(diffIDs)
	if c.snapshots[top] {
		return nil // nor does the config keep it
	}
	for i, chain := range identity.ChainIDs(slices.Clone(diffIDs)) {
		switch data := c.blobs[m.Layers[i].Digest]; {
		case c.snapshots[chain]:
		case data == nil:
			return fmt.Errorf("content digest %s: not found", m.Layers[i].Digest)
		case c.fails(chain):
			return fmt.Errorf("no space left on device")
		case digest.FromBytes(data) != diffIDs[i]:
			c.unzipped++
			fallthrough
		default:
			c.snapshots[chain] = true
		}
	}
	c.keeps[m.Config.Digest] = top
	return nil
}

// collect removes what no name leads to.
func (c *contentStore) collect() {
	blobs, snapshots := make(map[digest.Digest]bool), make(map[digest.Digest]bool)
	for _, target := range c.names {
		blobs[target.Digest] = true
		for _, d := range c.manifests(target) {
			m, diffIDs := c.parts(d.Digest)
			for _, b := range append(m.Layers, m.Config, d) {
				blobs[b.Digest] = true
			}
			if chains := identity.ChainIDs(slices.Clone(diffIDs)); len(chains) > 0 && c.keeps[m.Config.Digest] == chains[len(chains)-1] {
				for _, chain := range chains {
					snapshots[chain] = true
				}
			}
		}
	}
	for d := range c.blobs {
		if !blobs[d] {
			delete(c.blobs, d)
		}
	}
	for d := range c.snapshots {
		if !snapshots[d] {
			delete(c.snapshots, d)
		}
	}
}

// target is what a name, an ID or a name with a digest leads to.
func (c *contentStore) target(name string) (ocispec.Descriptor, bool) {
	if d, ok := c.names[name]; ok {
		return d, true
	}
	repo, id, named := strings.Cut(name, "@")
	for n, d := range c.names {
		if d.Digest.String() == name || named && d.Digest.String() == id && strings.HasPrefix(n, repo) {
			return d, true
		}
	}
	return ocispec.Descriptor{}, false
}

func (c *contentStore) serve(w http.ResponseWriter, r *http.Request, path string) {
	name, _ := strings.CutPrefix(path, "images/")
	name = strings.TrimSuffix(strings.TrimSuffix(name, "/json"), "/tag")
	target, ok := c.target(name)
	switch {
	case path == "images/json":
		list := []map[string]any{}
		for _, d := range c.names {
			list = append(list, map[string]any{"Id": d.Digest})
		}
		json.NewEncoder(w).Encode(list)
	case path == "containers/create":
		var config struct{ Image string }
		json.NewDecoder(r.Body).Decode(&config)
		target, ok := c.target(config.Image)
		if !ok || c.unpack(c.manifests(target)[0].Digest) != nil {
			http.Error(w, `{"message":"No such image"}`, http.StatusNotFound)
			return
		}
		c.containers++
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"Id":"abc"}`)
	case strings.HasPrefix(path, "containers/"):
		w.WriteHeader(http.StatusNoContent)
	case !ok:
		http.Error(w, `{"message":"No such image"}`, http.StatusNotFound)
	case r.Method == http.MethodDelete && c.stays:
		fmt.Fprint(w, "[]")
	case r.Method == http.MethodDelete:
		for n, d := range c.names {
			if d.Digest == target.Digest {
				delete(c.names, n)
			}
		}
		c.collect()
		fmt.Fprint(w, "[]")
	case strings.HasSuffix(path, "/tag"):
		c.names[r.FormValue("repo")+":"+r.FormValue("tag")] = target
		w.WriteHeader(http.StatusCreated)
	default:
		c.inspect(w, target, r.FormValue("manifests") == "1")
	}
}

func (c *contentStore) inspect(w http.ResponseWriter, target ocispec.Descriptor, manifests bool) {
	touched := c.touched
	if touched.IsZero() {
		touched = time.Now()
	}
	answer := map[string]any{"Id": target.Digest, "Metadata": map[string]any{"LastTagTime": touched}}
	var list []any
	for _, d := range c.manifests(target) {
		m, diffIDs := c.parts(d.Digest)
		complete := c.blobs[d.Digest] != nil
		for _, l := range append(m.Layers, m.Config) {
			complete = complete && c.blobs[l.Digest] != nil
		}
		one := map[string]any{"ID": d.Digest, "Available": complete, "Descriptor": d}
		if d.Platform == nil || d.Platform.OS != "unknown" {
			var p ocispec.Platform
			_ = json.Unmarshal(c.blobs[m.Config.Digest], &p)
			size := 4096
			if c.empty || !c.snapshots[identity.ChainID(slices.Clone(diffIDs))] {
				size = 0
			}
			one["ImageData"] = map[string]any{"Platform": p, "Size": map[string]any{"Unpacked": size}}
			answer["RootFS"] = map[string]any{"Type": "layers", "Layers": diffIDs}
		}
		list = append(list, one)
	}
	if manifests {
		answer["Manifests"] = list
		answer["Descriptor"] = target
	}
	json.NewEncoder(w).Encode(answer)
}
