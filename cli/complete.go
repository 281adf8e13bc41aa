package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/decode"
	"github.com/fastpull/fastpull/destination/dockerroot"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
)

// flagValues are the values of flags that have a few.
var flagValues = map[string][]cobra.Completion{
	"progress": {string(progress.Auto), string(progress.TTY), string(progress.Plain), string(progress.JSON), string(progress.Quiet)},
	"gzip":     {string(decode.GzipAuto), string(decode.GzipSerial), string(decode.GzipParallel), string(decode.GzipPgzip)},
	"layers":   {string(bundle.Plain), string(bundle.Keep), string(bundle.Gzip), string(bundle.Zstd)},
	"platform": {
		"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/riscv64", "linux/ppc64le", "linux/s390x", "linux/loong64",
	},
	"restart-engine": {dockerroot.Careful, dockerroot.Force},
}

// Flags whose values are directories, and files.
var (
	directoryFlags = []string{"store", "containerd-root", "docker-root", "podman", "rootfs", "temp-dir", "hosts-dir"}
	fileFlags      = []string{"output", "file", "since", "ca", "authfile", "tls-cert", "tls-key", "report", "containerd"}
)

// complete has the shell complete the values of flags, and the arguments of commands.
func complete(root *cobra.Command) {
	for _, cmd := range append(root.Commands(), root) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { completeFlag(cmd, f) })
		if cmd.ValidArgsFunction == nil && cmd.Runnable() {
			cmd.ValidArgsFunction = argumentsOf(cmd.Name())
		}
	}
}

// completeFlag registers how the value of a flag is completed. Errors are of flags that
// do not exist or that are registered twice.
func completeFlag(cmd *cobra.Command, f *pflag.Flag) {
	complete := cobra.FixedCompletions(nil, cobra.ShellCompDirectiveNoFileComp)
	switch values := flagValues[f.Name]; {
	case f.Value.Type() == "bool":
		return
	case values != nil:
		complete = cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	case slices.Contains(directoryFlags, f.Name):
		complete = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	case slices.Contains(fileFlags, f.Name):
		complete = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	}
	_ = cmd.RegisterFlagCompletionFunc(f.Name, complete)
}

// argumentsOf returns what completes the arguments of a command.
func argumentsOf(name string) cobra.CompletionFunc {
	switch name {
	case "load", "push", "serve":
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	case "umount":
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	case "rm":
		return imagesOfStore(cobra.ShellCompDirectiveNoFileComp)
	case "inspect", "verify":
		return imagesOfStore(cobra.ShellCompDirectiveDefault) // or a bundle
	case "mount":
		return func(cmd *cobra.Command, a []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(a) == 0 {
				return imagesOfStore(cobra.ShellCompDirectiveNoFileComp)(cmd, a, begun)
			}
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
	}
	return cobra.NoFileCompletions
}

// imagesOfStore returns what completes the names of images that the store has. otherwise is
// for the shell, beside them.
func imagesOfStore(otherwise cobra.ShellCompDirective) cobra.CompletionFunc {
	return func(cmd *cobra.Command, a []string, begun string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
		store, err := overlay.OpenReader(cmd.Flags().Lookup("store").Value.String())
		if err != nil {
			return nil, otherwise
		}
		images, _ := store.Images() // those that can be read
		for _, img := range images {
			for _, name := range img.Names {
				if strings.HasPrefix(name, begun) && !slices.Contains(a, name) {
					names = append(names, name)
				}
			}
		}
		return names, otherwise
	}
}
