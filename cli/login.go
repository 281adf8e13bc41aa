package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/registry"
)

func newLogin(s Streams) *cobra.Command {
	var user string
	var fromStdin bool
	var connect connectFlags
	cmd := &cobra.Command{
		Use:   "login [flags] [HOST]",
		Short: "Log in to a registry, as docker login does",
		Long: `Asks a registry (default: Docker Hub) if it takes a user and password, and keeps them
where docker login does: with the credential helper that Docker's config.json names, or
in that file. Docker and fastpull use them from then on.

A password is asked for at the terminal, or read with --password-stdin; there is no
flag for it, since other users of the machine could see that.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			ctx := cmd.Context()
			account, err := registry.ParseAccount(first(a), user)
			if err != nil {
				return err
			}
			account.File = connect.authFile
			tty := terminal(s.In)
			switch {
			case fromStdin && user == "":
				return fault.WithHint(fault.New(fault.Usage, "--password-stdin needs a user"), "add -u USER")
			case !fromStdin && tty == nil:
				return fault.WithHint(fault.New(fault.Usage, "a password is asked for at a terminal, and standard input is none"),
					"fastpull login -u USER --password-stdin %s < FILE", first(a))
			}
			if account.User == "" {
				if account.User, err = askUser(ctx, tty, s); err != nil {
					return err
				}
			}
			var password string
			if fromStdin {
				password, err = readPassword(ctx, s.In)
			} else {
				password, err = askPassword(ctx, tty, s)
			}
			if err == nil && password == "" {
				err = fault.New(fault.Usage, "the password is empty")
			}
			if err != nil {
				return err
			}
			o := connect.options()
			o.AuthFile = "" // the password is the user's, and the file need not be there yet
			client, err := registry.New(o)
			if err != nil {
				return err
			}
			defer client.Close()
			if err := client.Login(ctx, account, password); err != nil {
				return err
			}
			where, err := account.Save(ctx, password)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(s.Out, "logged in to %s as %s, kept in %s\n", account, text.Printable(account.User), text.Printable(where))
			return err
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVarP(&user, "username", "u", "", "log in as `USER`")
	fl.BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	connect.add(fl)
	return cmd
}

func newLogout(s Streams) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "logout [flags] [HOST]",
		Short: "Remove what login has kept for a registry",
		Args:  args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			account, err := registry.ParseAccount(first(a), "")
			if err != nil {
				return err
			}
			account.File = file
			found, err := account.Forget(cmd.Context())
			if err != nil {
				return err
			}
			words := "logged out of %s\n"
			if !found {
				words = "there is no login for %s\n"
			}
			_, err = fmt.Fprintf(s.Out, words, account)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "authfile", "", "remove it from `FILE` (default: Docker's config.json)")
	return cmd
}

// first returns the first argument, or "".
func first(a []string) string {
	if len(a) == 0 {
		return ""
	}
	return a[0]
}
