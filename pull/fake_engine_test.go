package pull

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
	sees   func(load int, file string)
	takes  func(load int) // called before it registers what an archive has
	undead bool           // it removes nothing

	mu     sync.Mutex
	open   int                     // loads that are open
	most   int                     // how many were at the same time
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
	case path == "images/create" && e.store == nil:
		e.importLayer(w, r)
	case e.store != nil:
		e.mu.Lock()
		defer e.mu.Unlock()
		e.store.serve(w, r, path)
	case path == "images/json":
		e.mu.Lock()
		defer e.mu.Unlock()
		list := []map[string]any{}
		for id, img := range e.images {
			if !strings.Contains(r.FormValue("filters"), "label") || len(configOf(img).Config.Labels) > 0 {
				list = append(list, map[string]any{"Id": id})
			}
		}
		json.NewEncoder(w).Encode(list)
	case isImage && r.Method == http.MethodDelete:
		e.mu.Lock()
		defer e.mu.Unlock()
		e.remove(w, name)
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
	tags := []string{}
	for tag, id := range e.tags {
		if id == name {
			tags = append(tags, tag)
		}
	}
	json.NewEncoder(w).Encode(map[string]any{
		"Id": name, "RepoTags": tags, "Config": map[string]any{"Labels": configOf(img).Config.Labels}, "Comment": configOf(img).Comment,
		"Created": img.Created.Format(time.RFC3339Nano), "Os": "linux", "Architecture": img.Platform.Architecture,
		"RootFS":      map[string]any{"Type": "layers", "Layers": layers},
		"GraphDriver": map[string]any{"Name": "overlay2", "Data": map[string]string{"UpperDir": "/x"}},
	})
}

// config is what the tests' Engine knows of an image beside its layers.
type config struct {
	Created time.Time                          `json:"created"`
	Comment string                             `json:"comment"`
	Config  struct{ Labels map[string]string } `json:"config"`
	OS      string                             `json:"os"`
	Arch    string                             `json:"architecture"`
	RootFS  struct {
		Type    string          `json:"type"`
		DiffIDs []digest.Digest `json:"diff_ids"`
	} `json:"rootfs"`
}

func configOf(img *image.Image) (c config) {
	_ = json.Unmarshal(img.Config, &c)
	return c
}

// remove takes a name away, and the image if it has no other one.
func (e *engine) remove(w http.ResponseWriter, name string) {
	id, ok := e.tags[name]
	switch {
	case e.undead:
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"message":"a container uses it"}`)
		return
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"No such image"}`)
		return
	}
	delete(e.tags, name)
	if !slices.Contains(slices.Collect(maps.Values(e.tags)), id) {
		delete(e.images, id)
	}
	clear(e.chains)
	for _, img := range e.images {
		for _, l := range img.Layers {
			e.chains[l.ChainID] = true
		}
	}
	fmt.Fprint(w, "[]")
}

// begins counts a load. It returns which one it is, and what ends it.
func (e *engine) begins() (load int, end func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.loads++
	e.open++
	e.most = max(e.most, e.open)
	return e.loads, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.open--
	}
}

func (e *engine) load(w http.ResponseWriter, body io.Reader) {
	load, end := e.begins()
	defer end()
	w.Header().Set("Content-Type", "application/json")
	if e.refuse != nil {
		if why := e.refuse(load); why != "" {
			if e.store != nil {
				io.Copy(io.Discard, body)
			} else { // at once: the answer would wait for some of the request's body
				http.NewResponseController(w).EnableFullDuplex()
			}
			say(w, why)
			return
		}
	}
	files, err := untar(body, func(file string) {
		if e.sees != nil {
			e.sees(load, file)
		}
	})
	if err == nil && e.takes != nil {
		e.takes(load)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
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

// importLayer makes an image of one layer.
func (e *engine) importLayer(w http.ResponseWriter, r *http.Request) {
	load, end := e.begins()
	defer end()
	if e.refuse != nil {
		if why := e.refuse(load); why != "" {
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"message":%q}`, why)
			return
		}
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has broken it off
	}
	diffID := digest.FromBytes(data)
	if e.sees != nil {
		e.sees(load, diffID.Encoded())
	}
	if e.takes != nil {
		e.takes(load)
	}
	c := config{Created: time.Now(), Comment: r.FormValue("message"), OS: "linux", Arch: image.Host().Architecture}
	c.Config.Labels = make(map[string]string)
	if key, value, ok := strings.Cut(strings.TrimPrefix(r.FormValue("changes"), "LABEL "), "="); ok {
		c.Config.Labels[strings.Trim(key, `"`)] = strings.Trim(value, `"`)
	}
	c.RootFS.Type, c.RootFS.DiffIDs = "layers", []digest.Digest{diffID}
	text, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	img, err := image.Parse(text)
	if err != nil {
		panic(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.layers = append(e.layers, diffID.Encoded())
	e.chains[img.Layers[0].ChainID] = true
	e.images[img.ID.String()] = img
	e.tags[r.FormValue("repo")] = img.ID.String()
	json.NewEncoder(w).Encode(map[string]string{"status": img.ID.String()})
}

func say(w io.Writer, why string) {
	json.NewEncoder(w).Encode(map[string]any{"errorDetail": map[string]string{"message": why}, "error": why})
}

// untar reads the files of an archive, and tells of each of which half has come.
func untar(body io.Reader, came func(file string)) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for tr := tar.NewReader(body); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if _, err = io.CopyN(&b, tr, h.Size/2); err == nil {
			came(h.Name)
			_, err = io.Copy(&b, tr)
		}
		if err != nil {
			return nil, err
		}
		files[h.Name] = b.Bytes()
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
