package push

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
)

// Options say what to push, and where to.
type Options struct {
	From     *bundle.Reader // which was verified
	Registry *registry.Client
	// Only are the images to push, by what they are called in the bundle. Nil: all.
	Only []registry.Reference
	// To is a host, with or without folders, under which images are pushed: "host:5000"
	// or "host:5000/prefix". "" is the host in each image's own name.
	To       string
	Progress *progress.Display // nil shows nothing
}

// Result is what became of an image.
type Result struct {
	Reference string        `json:"reference"` // in the bundle
	Target    string        `json:"target"`    // what it is called in the registry
	Digest    digest.Digest `json:"digest"`    // of what Target names
	Referrers int           `json:"referrers"` // that were pushed with it: signatures, SBOMs
	BytesSent int64         `json:"bytesSent"` // of blobs
	Seconds   float64       `json:"seconds"`
}

// Run pushes images one after the other. It returns the images that were pushed, also with an
// error, which is that of the first image that failed.
func Run(ctx context.Context, o Options) (done []Result, err error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	p := &pusher{Options: o, at: make(map[string]name.Repository)}
	list, err := p.choose()
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		res, err := p.push(ctx, c.ref, c.entry)
		if err != nil {
			return done, fmt.Errorf("%s: %w", c.ref, err)
		}
		done = append(done, res)
	}
	return done, nil
}

// chosen is an image that is going to be pushed.
type chosen struct {
	ref   registry.Reference
	entry bundle.Entry
}

// choose returns the images of Only, or all. An image without a tag is an error only if all are to
// be pushed.
func (p *pusher) choose() (list []chosen, err error) {
	for _, e := range p.From.Entries() {
		if e.Name == "" && p.Only != nil {
			continue
		}
		ref, err := reference(e)
		if err != nil {
			return nil, err
		}
		if p.wanted(ref) {
			list = append(list, chosen{ref, e})
		}
	}
	if len(list) == 0 {
		return nil, fault.New(fault.NotFound, "%s: no image to push", p.From.Name())
	}
	return list, nil
}

type pusher struct {
	Options
	mu sync.Mutex
	at map[string]name.Repository // where blobs are, by host and digest
}

func (p *pusher) wanted(ref registry.Reference) bool {
	if p.Only == nil {
		return true
	}
	for _, want := range p.Only {
		if want == ref {
			return true
		}
	}
	return false
}

func reference(e bundle.Entry) (registry.Reference, error) {
	if e.Name == "" {
		return registry.Reference{}, fault.WithHint(fault.New(fault.Usage, "%s has no tag to push it as", e.Descriptor.Digest), "make the bundle with name:tag@digest")
	}
	return registry.ParseReference(e.Name)
}

// Check returns an error if no image can be pushed below To. [Run] calls it; a caller that
// reads a large bundle first can call it before.
func (o Options) Check() error {
	if o.To == "" {
		return nil
	}
	if _, rest, ok := strings.Cut(o.To, "://"); ok {
		return fault.WithHint(fault.New(fault.Usage, "--to %s: a host has no scheme", o.To), "write --to %s; --plain-http is for registries without TLS", rest)
	}
	if host, _, _ := strings.Cut(o.To, "/"); !strings.ContainsAny(host, ".:") && host != "localhost" {
		return fault.New(fault.Usage, "--to %s: it has to begin with a host, host:port or host.domain", o.To)
	}
	_, err := registry.ParseReference(o.under("image:tag"))
	if err != nil {
		return fmt.Errorf("--to %s: %w", o.To, err)
	}
	return nil
}

// under returns the name below To.
func (o Options) under(name string) string { return strings.TrimSuffix(o.To, "/") + "/" + name }

// target returns what an image is pushed as.
func (o Options) target(ref registry.Reference) (registry.Reference, error) {
	if o.To == "" {
		return ref, nil
	}
	return registry.ParseReference(o.under(ref.Repository() + ":" + ref.Tag()))
}

func (p *pusher) push(ctx context.Context, ref registry.Reference, e bundle.Entry) (Result, error) {
	begun := time.Now()
	to, err := p.target(ref)
	if err != nil {
		return Result{}, err
	}
	raw, mediaType, err := p.From.Manifest(e.Descriptor.Digest)
	if err != nil {
		return Result{}, err
	}
	repo, err := name.NewRepository(to.Host()+"/"+to.Repository(), name.WeakValidation)
	if err != nil {
		return Result{}, fault.Wrap(fault.Usage, err)
	}
	d := &document{p.From, raw, mediaType, func(l v1.Layer) v1.Layer { return p.elsewhere(repo, l) }}
	var what remote.Taggable
	if d.isIndex() {
		if d, err = p.present(ctx, to, d); err != nil {
			return Result{}, err
		}
	}
	if d.isIndex() {
		what = index{d}
	} else if what, err = d.image(); err != nil {
		return Result{}, fault.Wrap(fault.Corrupt, err)
	}
	task := p.Progress.Task("push "+to.String(), 0)
	task.Phase(progress.Sending)
	var sent atomic.Int64
	count := func(n int64) {
		sent.Add(n)
		task.Add(n)
	}
	refer := 0
	if err = p.Registry.Push(ctx, to, what, count); err == nil {
		refer, err = p.refer(ctx, e, to, d, count)
	}
	if err != nil {
		task.Phase(progress.Outcome(ctx, err))
		return Result{}, err
	}
	if err = p.note(repo, d); err != nil {
		return Result{}, err
	}
	task.Phase(progress.Done)
	return Result{
		Reference: ref.String(), Target: to.String(), Digest: digest.FromBytes(d.raw),
		Referrers: refer, BytesSent: sent.Load(), Seconds: time.Since(begun).Seconds(),
	}, nil
}

// elsewhere lets a layer be mounted that this run has brought to another repository.
func (p *pusher) elsewhere(repo name.Repository, l v1.Layer) v1.Layer {
	h, err := l.Digest()
	if err != nil {
		return l
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	from, ok := p.at[repo.RegistryStr()+" "+h.String()]
	if !ok || from == repo {
		return l
	}
	return &remote.MountableLayer{Layer: l, Reference: from.Digest(h.String())}
}

// note notes the layers that are in a repository now.
func (p *pusher) note(repo name.Repository, d *document) error {
	all, err := d.all()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range all {
		var m ocispec.Manifest
		if err := json.Unmarshal(d.raw, &m); err != nil {
			return fault.Wrap(fault.Corrupt, err)
		}
		for _, l := range m.Layers {
			key := repo.RegistryStr() + " " + l.Digest.String()
			if _, ok := p.at[key]; !ok {
				p.at[key] = repo
			}
		}
	}
	return nil
}
