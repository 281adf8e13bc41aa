package cli

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/serve"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	store, listen, cert, key, tempDir, mode string
	perClient                               int
}

// maxPerClient is more than there can be of use.
const maxPerClient = 1 << 16

func newServe(s Streams) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve [flags] FILE|DIR",
		Short: "Serve the images of a bundle or a store to docker pull",
		Long: `serve is a registry to read from, with the images of a bundle, of its parts, or of the
store at DIR: one host feeds the others, until it is interrupted. An image
host:5000/team/img:1.2 is called team/img:1.2 here. Everything is verified before the
first request. Layers of a store are served as plain tars, made again from its files.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, s, a) },
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.store, "store", "", "serve the store at `DIR`")
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
	name, isStore := f.store, true
	switch {
	case cmd.Flags().Changed("store") && f.store == "":
		return fault.New(fault.Usage, "--store is empty")
	case f.store != "" && len(a) > 0:
		return fault.WithHint(fault.New(fault.Usage, "one thing is served at a time"), "name a bundle, or a store with --store DIR")
	case f.store == "" && len(a) == 0:
		return fault.WithHint(fault.New(fault.Usage, "nothing is named to be served"), "fastpull serve images.tar, or fastpull serve --store DIR")
	case f.store == "":
		st, err := os.Stat(a[0])
		name, isStore = a[0], err == nil && st.IsDir()
	}
	display := progress.New(progress.Options{Mode: m, Out: s.Err})
	defer display.Close()
	var h *serve.Handler
	if isStore {
		h, err = serveStore(cmd.Context(), name, display)
	} else {
		r, oerr := openBundle(cmd.Context(), name, f.tempDir, s.In)
		if oerr != nil {
			return oerr
		}
		defer r.Close()
		if h, err = serve.New(r); err == nil {
			err = verifyBundle(cmd.Context(), r, display, false)
		}
		if since := r.Since(); since != "" && err == nil {
			display.Warn("%s was made by bundle --since: only hosts that have the layers of the bundle that it builds on, whose index is %s, can pull from it", name, since)
		}
	}
	display.Close()
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
	for _, name := range h.Names() {
		fmt.Fprintf(s.Out, "  docker pull %s/%s\n", at, text.Printable(name))
	}
	return serve.Serve(cmd.Context(), l, h, serve.Options{Certificate: pair, PerClient: f.perClient})
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
