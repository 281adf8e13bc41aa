package cli

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/destination/containerd"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/serve"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	containerd                              containerd.Options
	store, listen, cert, key, tempDir, mode string
	perClient                               int
}

// maxPerClient is more than there can be of use.
const maxPerClient = 1 << 16

func newServe(s Streams) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve [flags] [FILE|DIR]",
		Short: "Serve the images of a bundle, a store or containerd to docker pull",
		Long: `serve is a registry to read from, with the images of a bundle, of its parts, of the
store at DIR, or of containerd: one host feeds the others, until it is interrupted. An
image host:5000/team/img:1.2 is called team/img:1.2 here. A bundle and a store are
verified before the first request. Layers of a store are served as plain tars, made again
from its files.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, s, a) },
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.store, "store", "", "serve the store at `DIR`")
	fl.StringVar(&f.containerd.Address, "containerd", "", "serve what containerd has at the time of a request; `ADDRESS` is that of pull")
	fl.Lookup("containerd").NoOptDefVal = containerd.AnyAddress
	fl.StringVar(&f.containerd.Namespace, "namespace", "", "with --containerd: serve the namespace `NAME` (default: that of pull)")
	fl.StringVar(&f.listen, "listen", "127.0.0.1:5000", "listen at `HOST:PORT`; :5000 is all addresses of this machine")
	fl.StringVar(&f.cert, "tls-cert", "", "speak TLS with the certificate in `FILE` (PEM)")
	fl.StringVar(&f.key, "tls-key", "", "with --tls-cert: the key of the certificate, in `FILE` (PEM)")
	fl.IntVar(&f.perClient, "per-client", serve.DefaultPerClient, "send up to `N` blobs at a time to one address; others wait for their turn")
	fl.StringVar(&f.tempDir, "temp-dir", "", compressedTemp)
	fl.StringVar(&f.mode, "progress", "auto", "show progress of verifying by `MODE`: auto, tty, plain, json or quiet")
	return cmd
}

func (f *serveFlags) run(cmd *cobra.Command, s Streams, a []string) error {
	m, err := progress.ParseMode(f.mode)
	if err != nil {
		return err
	}
	pair, err := f.certificate()
	if err != nil {
		return err
	}
	if f.perClient < 1 || f.perClient > maxPerClient {
		return fault.New(fault.Usage, "--per-client %d: it has to be between 1 and %d", f.perClient, maxPerClient)
	}
	if err := listenable(cmd.Context(), f.listen); err != nil {
		return err
	}
	display := progress.New(progress.Options{Mode: m, Out: s.Err})
	defer display.Close()
	name, h, closer, err := f.open(cmd, s, a, display)
	if closer != nil {
		defer closer.Close()
	}
	display.Close()
	if err != nil {
		return err
	}
	names, err := h.Names(cmd.Context())
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", f.listen)
	if err != nil {
		return fault.WithHint(fmt.Errorf("serve: %w", err), "choose another address with --listen HOST:PORT")
	}
	at, about := l.Addr().String(), ""
	if a, ok := l.Addr().(*net.TCPAddr); ok && a.IP.IsUnspecified() {
		at, about = net.JoinHostPort("HOST", strconv.Itoa(a.Port)), ", HOST being a name or an address of this machine"
	}
	fmt.Fprintf(s.Out, "serving %s at %s%s:\n", text.Printable(name), l.Addr(), about)
	for _, name := range names {
		fmt.Fprintf(s.Out, "  docker pull %s/%s\n", at, text.Printable(name))
	}
	return serve.Serve(cmd.Context(), l, h, serve.Options{Certificate: pair, PerClient: f.perClient})
}

// open opens what is served, and makes a handler of it. closer is to be closed when the
// handler is not used any more; it may be nil.
func (f *serveFlags) open(cmd *cobra.Command, s Streams, a []string, display *progress.Display) (name string, h *serve.Handler, closer io.Closer, err error) {
	ctx := cmd.Context()
	given := len(a)
	for _, flag := range []string{"store", "containerd"} {
		if value, _ := cmd.Flags().GetString(flag); value != "" {
			given++
		}
	}
	switch {
	case given > 1:
		return "", nil, nil, fault.WithHint(fault.New(fault.Usage, "one thing is served at a time"), "name a bundle, a store with --store DIR, or --containerd")
	case given == 0:
		return "", nil, nil, fault.WithHint(fault.New(fault.Usage, "nothing is named to be served"), "fastpull serve images.tar, fastpull serve --store DIR, or fastpull serve --containerd")
	case f.containerd.Namespace != "" && f.containerd.Address == "":
		return "", nil, nil, fault.New(fault.Usage, "--namespace goes with --containerd")
	case f.containerd.Address != "":
		c, err := containerd.Connect(ctx, f.containerd)
		if err != nil {
			return "", nil, nil, err
		}
		h, err = serve.NewContainerd(ctx, c)
		return c.String(), h, c, err
	case f.store != "":
		h, err = serveStore(ctx, f.store, display)
		return f.store, h, nil, err
	}
	name = a[0]
	if st, err := os.Stat(name); err == nil && st.IsDir() {
		h, err = serveStore(ctx, name, display)
		return name, h, nil, err
	}
	r, err := openBundle(ctx, name, f.tempDir, s.In)
	if err != nil {
		return name, nil, nil, err
	}
	if h, err = serve.New(r); err == nil {
		err = verifyBundle(ctx, r, display, false)
	}
	if since := r.Since(); since != "" && err == nil {
		display.Warn("%s was made by bundle --since: only hosts that have the layers of the bundle that it builds on, whose index is %s, can pull from it", name, since)
	}
	return name, h, r, err
}

// listenable returns an error unless address is HOST:PORT. Commands call it first: a bundle can
// take minutes to verify.
func listenable(ctx context.Context, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.DefaultResolver.LookupPort(ctx, "tcp", port)
	}
	if err != nil {
		return fault.WithHint(fault.Wrap(fault.Usage, fmt.Errorf("--listen %s: %w", text.Printable(address), err)), "write HOST:PORT, such as 127.0.0.1:5000, or :5000 for all addresses")
	}
	return nil
}

// serveStore makes a handler of a store, and says what is left out.
func serveStore(ctx context.Context, dir string, display *progress.Display) (*serve.Handler, error) {
	store, err := overlay.OpenReader(dir)
	if err != nil {
		return nil, err
	}
	h, left, err := serve.NewStore(ctx, store, display)
	for _, why := range left {
		for _, one := range split(why) {
			display.Warn("left out: %v", one)
		}
	}
	return h, err
}

func (f *serveFlags) certificate() (*tls.Certificate, error) {
	if f.cert == "" && f.key == "" {
		return nil, nil
	}
	if f.cert == "" || f.key == "" {
		return nil, fault.New(fault.Usage, "--tls-cert and --tls-key go together")
	}
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fault.Wrap(fault.Usage, fmt.Errorf("read the certificate: %w", err))
	}
	return &c, nil
}
