package engines

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ContainerdCommand returns the command that starts a containerd, and the socket that it
// will listen on. The program keeps its images in root, and all else in dir. The plugin for
// a kubelet is on if cri is true. Plugins that write outside of both folders are off. more is
// added to the configuration, in TOML.
func ContainerdCommand(program, dir, root string, cri bool, more string) (cmd *exec.Cmd, sock string, err error) {
	sock = filepath.Join(dir, "s")
	disabled := []string{"io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"}
	if !cri {
		disabled = append(disabled, "io.containerd.grpc.v1.cri")
	}
	text := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["%s"]
[grpc]
address = %q
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = %[5]q
bin_dir = %[5]q
`, root, filepath.Join(dir, "state"), strings.Join(disabled, `", "`), sock, filepath.Join(dir, "cni"))
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, []byte(text+more), 0o600); err != nil {
		return nil, "", err
	}
	cmd = exec.Command(program, "-c", config)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	return cmd, sock, nil
}
