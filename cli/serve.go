package cli

import (
	"crypto/tls"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/serve"
)

func newServe(s Streams) *cobra.Command {
	var listen, cert, key, tempDir, mode string
	cmd := &cobra.Command{
		Use:   "serve [flags] FILE",
		Short: "Serve the images of a bundle to docker pull",
		Long: `serve is a registry to read from, with the images of a bundle, or of its parts: one host
feeds the others, until it is interrupted. An image host:5000/team/img:1.2 of the bundle is
called team/img:1.2 here. The bundle is verified before the first request.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			m, err := progress.ParseMode(mode)
			if err != nil {
				return err
			}
			var pair *tls.Certificate
			switch {
			case (cert == "") != (key == ""):
				return fault.New(fault.Usage, "--tls-cert and --tls-key go together")
			case cert != "":
				c, err := tls.LoadX509KeyPair(cert, key)
				if err != nil {
					return fault.Wrap(fault.Usage, fmt.Errorf("read the certificate: %w", err))
				}
				pair = &c
			}
			r, err := openBundle(cmd.Context(), a[0], tempDir, s.In)
			if err != nil {
				return err
			}
			defer r.Close()
			h, err := serve.New(r)
			if err != nil {
				return err
			}
			display := progress.New(progress.Options{Mode: m, Out: s.Err})
			err = verifyBundle(cmd.Context(), r, display, false)
			display.Close()
			if err != nil {
				return err
			}
			l, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return fault.WithHint(fmt.Errorf("serve: %w", err), "choose another address with --listen HOST:PORT")
			}
			fmt.Fprintf(s.Out, "serving %s at %s:\n", printable(a[0]), l.Addr())
			for _, name := range h.Names() {
				fmt.Fprintf(s.Out, "  docker pull %s/%s\n", l.Addr(), printable(name))
			}
			return serve.Serve(cmd.Context(), l, h, pair)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&listen, "listen", "127.0.0.1:5000", "listen at `HOST:PORT`; :5000 is all addresses of this machine")
	fl.StringVar(&cert, "tls-cert", "", "speak TLS with the certificate in `FILE` (PEM)")
	fl.StringVar(&key, "tls-key", "", "... and its key in `FILE` (PEM)")
	fl.StringVar(&tempDir, "temp-dir", "", "keep a bundle that is compressed in `DIR` (default: $TMPDIR or /var/tmp)")
	fl.StringVar(&mode, "progress", "auto", "show progress of verifying as auto, tty, plain, json or quiet")
	return cmd
}
