package engines

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// CrioCommand returns the command that starts the CRI-O of a folder of [Crio], and the socket
// that it will listen on. The program keeps its images in root, its state in runRoot, and all
// else in dir. pause is the image of pods, which no registry needs to have.
func CrioCommand(folder, dir, root, runRoot, pause string) (cmd *exec.Cmd, sock string, err error) {
	sock = filepath.Join(dir, "s")
	policy := filepath.Join(dir, "policy.json")
	text := fmt.Sprintf(`[crio]
root = %[1]q
runroot = %[2]q
storage_driver = "overlay"
log_dir = "%[3]s/log"
version_file = "%[3]s/version"
version_file_persist = "%[3]s/version-persist"
clean_shutdown_file = "%[3]s/clean"
[crio.api]
listen = %[4]q
stream_port = "0"
[crio.runtime]
default_runtime = "runc"
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
pinns_path = "%[5]s/pinns"
namespaces_dir = "%[3]s/namespaces"
container_exits_dir = "%[3]s/exits"
container_attach_socket_dir = "%[3]s/attach"
hooks_dir = []
drop_infra_ctr = true
apparmor_profile = "unconfined"
disable_hostport_mapping = true
irqbalance_config_restore_file = "disable"
[crio.runtime.runtimes.runc]
runtime_path = "%[5]s/runc"
runtime_root = "%[3]s/runc"
monitor_cgroup = "pod"
[crio.image]
signature_policy = %[6]q
signature_policy_dir = "%[3]s/policies"
pause_image = %[7]q
[crio.network]
network_dir = "%[3]s/cni"
plugin_dirs = ["%[3]s/cni"]
[crio.nri]
enable_nri = false
`, root, runRoot, dir, sock, folder, policy, pause)
	config := filepath.Join(dir, "crio.conf")
	if err := errors.Join(os.WriteFile(config, []byte(text), 0o600), os.WriteFile(policy, []byte(`{"default": [{"type": "insecureAcceptAnything"}]}`), 0o600)); err != nil {
		return nil, "", err
	}
	cmd = exec.Command(filepath.Join(folder, "crio"), "--config", config, "--config-dir", filepath.Join(dir, "none"))
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	return cmd, sock, nil
}

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
