//go:build e2e

package fleet

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// podSpec is the pod of a manifest, with all fields that the manifests have. The raw ones
// are not of the container runtime: the scheduler and the kubelet use them.
type podSpec struct {
	HostNetwork bool        `json:"hostNetwork"`
	Containers  []container `json:"containers"`
	Volumes     []volume    `json:"volumes"`

	DNSPolicy                     json.RawMessage `json:"dnsPolicy"`
	AutomountServiceAccountToken  json.RawMessage `json:"automountServiceAccountToken"`
	EnableServiceLinks            json.RawMessage `json:"enableServiceLinks"`
	NodeSelector                  json.RawMessage `json:"nodeSelector"`
	Tolerations                   json.RawMessage `json:"tolerations"`
	TerminationGracePeriodSeconds json.RawMessage `json:"terminationGracePeriodSeconds"`
}

type container struct {
	Name            string          `json:"name"`
	Image           string          `json:"image"`
	Args            []string        `json:"args"`
	Env             []variable      `json:"env"`
	SecurityContext securityContext `json:"securityContext"`
	VolumeMounts    []volumeMount   `json:"volumeMounts"`
	Resources       struct {
		Requests quantities `json:"requests"`
		Limits   quantities `json:"limits"`
	} `json:"resources"`

	Ports          json.RawMessage `json:"ports"`
	ReadinessProbe json.RawMessage `json:"readinessProbe"`
}

type variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type quantities struct {
	CPU    string `json:"cpu"`
	Memory string `json:"memory"`
}

type securityContext struct {
	RunAsUser                int64 `json:"runAsUser"`
	RunAsNonRoot             bool  `json:"runAsNonRoot"`
	Privileged               bool  `json:"privileged"`
	AllowPrivilegeEscalation bool  `json:"allowPrivilegeEscalation"`
	ReadOnlyRootFilesystem   bool  `json:"readOnlyRootFilesystem"`
	SeccompProfile           struct {
		Type string `json:"type"`
	} `json:"seccompProfile"`
	Capabilities struct {
		Add  []string `json:"add"`
		Drop []string `json:"drop"`
	} `json:"capabilities"`
}

type volumeMount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
	ReadOnly  bool   `json:"readOnly"`
}

type volume struct {
	Name     string `json:"name"`
	HostPath *struct {
		Path string `json:"path"`
		Type string `json:"type"`
	} `json:"hostPath"`
	ConfigMap *struct {
		Name string `json:"name"`
	} `json:"configMap"`
	Secret *struct {
		SecretName string          `json:"secretName"`
		Optional   bool            `json:"optional"`
		Items      json.RawMessage `json:"items"`
	} `json:"secret"`
}

// substitutes says where a test has what the manifest names: volumes by their names, paths in
// the container, and arguments.
type substitutes struct {
	volumes, paths, args map[string]string
	seccomp              bool // the runtime has filters of system calls
}

// translated returns the configuration of a container as the kubelet would give it to the
// container runtime.
func translated(t *testing.T, c container, image string, p substitutes) map[string]any {
	t.Helper()
	instead := func(m map[string]string, s string) string {
		if other, ok := m[s]; ok {
			return other
		}
		return s
	}
	var args []string
	for _, a := range c.Args {
		args = append(args, instead(p.args, a))
	}
	var envs, mounts []map[string]any
	for _, v := range c.Env {
		envs = append(envs, map[string]any{"key": v.Name, "value": v.Value})
	}
	for _, m := range c.VolumeMounts {
		from, ok := p.volumes[m.Name]
		if !ok {
			t.Fatalf("the test has no volume %s", m.Name)
		}
		mounts = append(mounts, map[string]any{"container_path": instead(p.paths, m.MountPath), "host_path": from, "readonly": m.ReadOnly})
	}
	sc := c.SecurityContext
	profile := 1 // unconfined
	if sc.SeccompProfile.Type == "RuntimeDefault" && p.seccomp {
		profile = 0
	}
	return map[string]any{
		"image": map[string]any{"image": image}, "args": args, "envs": envs, "mounts": mounts,
		"linux": map[string]any{
			"resources": map[string]any{
				"cpu_period": 100000, "cpu_quota": milli(t, c.Resources.Limits.CPU) * 100,
				"cpu_shares": milli(t, c.Resources.Requests.CPU) * 1024 / 1000, "memory_limit_in_bytes": mebibytes(t, c.Resources.Limits.Memory) << 20,
			},
			"security_context": map[string]any{
				"capabilities": map[string]any{"add_capabilities": sc.Capabilities.Add, "drop_capabilities": sc.Capabilities.Drop},
				"privileged":   sc.Privileged, "no_new_privs": !sc.AllowPrivilegeEscalation, "readonly_rootfs": sc.ReadOnlyRootFilesystem,
				"run_as_user": map[string]any{"value": sc.RunAsUser}, "namespace_options": map[string]any{"network": 2},
				"seccomp": map[string]any{"profile_type": profile},
			},
		},
	}
}

// milli returns a quantity of processors in thousandths.
func milli(t *testing.T, quantity string) int64 {
	t.Helper()
	text, thousandths := strings.CutSuffix(quantity, "m")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if !thousandths {
		n *= 1000
	}
	return n
}

// mebibytes returns a quantity of memory.
func mebibytes(t *testing.T, quantity string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.TrimSuffix(quantity, "Mi"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
