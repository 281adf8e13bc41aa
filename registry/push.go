package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// Push pushes an image, or an index with its images, to the registry of ref: under the tag of
// ref, or under its digest if it has no tag. Blobs that are there are not sent. The tag is set
// last, when everything else is there. sent is called with the number of bytes of blobs that
// were read, from several goroutines.
//
// At the end Push reads the manifest from the registry and compares it. Credentials that may
// not read get no such proof.
//
// Push goes to the registry itself, never to a mirror. go-containerregistry does the
// exchange, over the connections of the Client, with its credentials and time limits. Errors
// are of kind [fault.Denied] if credentials are missing.
func (c *Client) Push(ctx context.Context, ref Reference, what remote.Taggable, sent func(n int64)) error {
	if err := c.pushing(ctx, ref, sent, func(pusher *remote.Pusher, as name.Reference) error { return pusher.Push(ctx, as, what) }); err != nil {
		return err
	}
	return c.verifyPushed(ctx, ref, what)
}

// verifyTries is how often a registry is asked for a manifest that it has just taken: some
// show it everywhere after a moment only.
const verifyTries = 4

// verifyPushed checks that the registry gives the manifest back that it was given, under
// the tag of ref, or its digest.
func (c *Client) verifyPushed(ctx context.Context, ref Reference, what remote.Taggable) error {
	raw, err := what.RawManifest()
	if err != nil {
		return err
	}
	h, err := c.own(ctx, ref)
	if err != nil {
		return err
	}
	e := errand{
		ref: ref, doing: "verify what was pushed as " + ref.String(), missing: "the registry has taken it, and does not have it",
		advice: "something before the registry, such as a proxy, may answer in its place",
	}
	algorithm := digest.SHA256
	if ref.digest != "" {
		algorithm = ref.digest.Algorithm()
	}
	want := algorithm.FromBytes(raw)
	p := c.patience()
	for try, pause := 1, c.backoff; ; {
		m, err := c.manifestAt(p.bear(ctx), h, ref, cmp.Or(ref.tag, ref.digest.String()), ocispec.Descriptor{Digest: ref.digest, Size: -1})
		switch {
		case err == nil && m.Digest == want:
			return nil
		case err == nil:
			err = fault.New(fault.Failed, "the registry has %s there, pushed was %s", m.Digest, want)
		case !isStatus(func(s *statusError) bool { return s.code == http.StatusNotFound })(err):
			if err = p.again(ctx, err); err == nil {
				continue
			}
			if err = e.explain(err); fault.KindOf(err) == fault.Denied {
				return nil
			}
			return err
		}
		if try == verifyTries {
			return e.explain(err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		try, pause = try+1, 2*pause
	}
}

// own returns the registry's own host.
func (c *Client) own(ctx context.Context, ref Reference) (*host, error) {
	s, err := c.serversOf(ctx, ref.Host())
	if err != nil {
		return nil, err
	}
	h := s.hosts[len(s.hosts)-1]
	if h.mirror || h.ns != "" {
		return nil, fault.New(fault.Usage, "push to %s: what is configured for it are mirrors alone", ref.Host())
	}
	return h, nil
}

// pushing has push use a pusher for the repository of ref.
func (c *Client) pushing(ctx context.Context, ref Reference, sent func(n int64), push func(*remote.Pusher, name.Reference) error) error {
	h, err := c.own(ctx, ref)
	if err != nil {
		return err
	}
	repo, err := name.NewRepository(ref.Host() + "/" + ref.Repository())
	if err != nil {
		return permanent(err)
	}
	e := errand{ref: ref, doing: fmt.Sprintf("push %s", ref), missing: "the registry does not say"}
	if err := c.reach(ctx, h); err != nil {
		return e.explain(err)
	}
	pusher, err := remote.NewPusher(
		remote.WithTransport(&pushTransport{client: c, sender: sender{h: h, stall: c.opt.StallTimeout, sent: sent}, repo: ref.Repository()}),
		remote.WithUserAgent(c.opt.UserAgent),
		remote.WithJobs(c.perBlob()),
		remote.WithRetryBackoff(remote.Backoff{Duration: c.backoff, Factor: 2, Jitter: 0.2, Steps: c.opt.Retries + 1, Cap: maxBackoff}),
		remote.WithRetryPredicate(func(err error) bool {
			var answer *transport.Error
			if errors.As(err, &answer) {
				return answer.Temporary()
			}
			return ctx.Err() == nil && worthRetrying(err)
		}),
	)
	if err != nil {
		return permanent(err)
	}
	var as name.Reference = repo.Tag(ref.Tag())
	if ref.Tag() == "" {
		as = repo.Digest(ref.Digest().String())
	}
	if err = push(pusher, as); err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return e.explain(withoutURL(err, h))
	}
	err = fmt.Errorf("%s: %w", e.doing, err)
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fault.WithHint(fault.Wrap(fault.Denied, err), "log in: fastpull login %s", ref.Host())
	case http.StatusMethodNotAllowed:
		return fault.WithHint(err, "the registry can only be read")
	}
	return err
}

// reach finds out how a host is reached, before anything is sent to it.
func (c *Client) reach(ctx context.Context, h *host) error {
	for p := c.patience(); ; {
		resp, err := c.send(p.bear(ctx), http.MethodGet, &session{host: h}, h.base+"/", nil)
		if err == nil {
			buffer(resp)
			if ask := challengeOf(resp); ask != nil && h.isHome(ask.from) {
				h.setChallenge(ask)
			}
			if err = newStatusError(resp, &session{host: h}); !worthRetrying(err) {
				return nil // whatever it says
			}
		}
		if err = p.again(ctx, err); err != nil {
			return err
		}
	}
}

// sender sends requests with bodies. It cancels a request that has begun to send its body, and
// sends no byte for a while.
type sender struct {
	h     *host
	by    http.RoundTripper // of h
	stall time.Duration
	sent  func(n int64)
}

func (s *sender) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return s.by.RoundTrip(req)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	b := &sentBody{ReadCloser: req.Body, s: s, timer: time.AfterFunc(s.stall, func() {
		cancel(fmt.Errorf("the registry has taken no byte for %s: %w", s.stall, io.ErrNoProgress))
	})}
	b.timer.Stop() // until the first byte is read: the request may wait for a slot
	req = req.Clone(ctx)
	req.Body = b
	resp, err := s.by.RoundTrip(req)
	b.timer.Stop() // the answer has a limit of its own
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, io.ErrNoProgress) {
		err = cause
	}
	return resp, err
}

// sentBody is a body on its way.
type sentBody struct {
	io.ReadCloser
	s     *sender
	timer *time.Timer
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.s.stall)
	n, err := b.ReadCloser.Read(p)
	if b.s.sent != nil {
		b.s.sent(int64(n))
	}
	if err != nil {
		b.timer.Stop()
	}
	return n, err
}
