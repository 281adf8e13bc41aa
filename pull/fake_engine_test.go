package pull

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/system"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/registry"
)

// engine is an Engine that has images in its memory.
type engine struct {
	host   string
	store  *contentStore          // containerd's, nil for a graph driver
	api    string                 // the version that it speaks
	refuse func(loads int) string // what it says to a load instead of taking it
	lie    func()                 // undoes part of a load that it says went well

	mu     sync.Mutex
	images map[string]*image.Image // by ID
	tags   map[string]string       // name → ID
	chains map[digest.Digest]bool
	loads  int
	layers []string // files of layers that came, in order
}

func startEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{
		images: make(map[string]*image.Image),
		tags:   make(map[string]string), chains: make(map[digest.Digest]bool), api: "1.41",
	}
	e.host = testkit.ServeSocket(t, e)
	return e
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v"), "/")
	name, isImage := strings.CutPrefix(path, "images/")
	switch {
	case path == "_ping":
		w.Header().Set("Api-Version", e.api)
	case path == "info":
		info := system.Info{ServerVersion: "20.10.24", OSType: "linux", Architecture: image.Host().Architecture, Driver: "overlay2"}
		if e.store != nil {
			info.Driver, info.DriverStatus = "overlayfs", [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}
		}
		json.NewEncoder(w).Encode(info)
	case path == "images/load":
		e.load(w, r.Body)
	case e.store != nil:
		e.mu.Lock()
		defer e.mu.Unlock()
		e.store.serve(w, r, path)
	case path == "images/json":
		e.mu.Lock()
		defer e.mu.Unlock()
		list := []map[string]any{}
		for id := range e.images {
			list = append(list, map[string]any{"Id": id})
		}
		json.NewEncoder(w).Encode(list)
	case isImage && strings.HasSuffix(name, "/tag"):
		e.mu.Lock()
		defer e.mu.Unlock()
		e.tags[r.FormValue("repo")+":"+r.FormValue("tag")] = strings.TrimSuffix(name, "/tag")
		w.WriteHeader(http.StatusCreated)
	case isImage && strings.HasSuffix(name, "/json"):
		e.inspect(w, strings.TrimSuffix(name, "/json"))
	default:
		http.NotFound(w, r)
	}
}

func (e *engine) inspect(w http.ResponseWriter, name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if id, ok := e.tags[name]; ok {
		name = id
	}
	img := e.images[name]
	if img == nil {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"No such image"}`)
		return
	}
	layers := []string{}
	for _, l := range img.Layers {
		layers = append(layers, l.DiffID.String())
	}
	json.NewEncoder(w).Encode(map[string]any{
		"Id": name, "RootFS": map[string]any{"Type": "layers", "Layers": layers},
		"GraphDriver": map[string]any{"Name": "overlay2", "Data": map[string]string{"UpperDir": "/x"}},
	})
}

func (e *engine) load(w http.ResponseWriter, body io.Reader) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.loads++
	w.Header().Set("Content-Type", "application/json")
	if e.refuse != nil {
		if why := e.refuse(e.loads); why != "" {
			if e.store != nil {
				io.Copy(io.Discard, body)
			} else { // at once: the answer would wait for some of the request's body
				http.NewResponseController(w).EnableFullDuplex()
			}
			say(w, why)
			return
		}
	}
	files, err := untar(body)
	switch {
	case err != nil:
	case e.store != nil:
		err = e.store.load(w, files)
	default:
		err = e.take(files)
	}
	if err != nil {
		say(w, err.Error())
	}
	if e.lie != nil {
		e.lie()
	}
}

func say(w io.Writer, why string) {
	json.NewEncoder(w).Encode(map[string]any{"errorDetail": map[string]string{"message": why}, "error": why})
}

// untar reads the files of an archive.
func untar(body io.Reader) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for tr := tar.NewReader(body); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			return nil, err
		}
	}
}

// take does with an archive what an Engine with a graph driver does.
func (e *engine) take(files map[string][]byte) error {
	var manifest []loaded
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil {
		return err
	}
	for _, m := range manifest {
		img, err := image.Parse(files[m.Config])
		if err != nil {
			return err
		}
		for i, l := range img.Layers {
			switch data, sent := files[m.Layers[i]]; {
			case !sent && e.chains[l.ChainID]:
			case !sent:
				return fmt.Errorf("open /var/lib/docker/tmp/docker-import-1/%s: no such file or directory", m.Layers[i])
			case digest.FromBytes(data) != l.DiffID:
				return fmt.Errorf("layer %s is not what its name says", l.DiffID)
			default:
				e.layers = append(e.layers, m.Layers[i])
			}
			e.chains[l.ChainID] = true
		}
		e.images[img.ID.String()] = img
		for _, tag := range m.RepoTags {
			e.tags[tag] = img.ID.String()
		}
	}
	return nil
}

// came returns how many layers came since it was asked before.
func (e *engine) came() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.layers)
	e.layers = nil
	return n
}

func (e *engine) options(refs ...registry.Reference) to {
	return to{Kind: "load", Host: e.host, Options: Options{References: refs}}
}
