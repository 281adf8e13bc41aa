//go:build e2e

package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// releases serves releases as GitHub does: v1.2.3, which is the latest, v6.6.6, whose binary
// is not what its checksum says, and v7.7.7, whose checksums do not name it.
func releases(t *testing.T, program []byte) (url, sum string) {
	t.Helper()
	hash := sha256.Sum256(program)
	sum = hex.EncodeToString(hash[:])
	name := "fastpull-linux-" + runtime.GOARCH
	sums := fmt.Sprintf("%064d  fastpull-linux-other\n%s  %s\n", 0, sum, name)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/latest/download/" + name, "/latest/download/SHA256SUMS":
			http.Redirect(w, q, "/download/v1.2.3/"+filepath.Base(q.URL.Path), http.StatusFound)
		case "/download/v1.2.3/" + name, "/download/v7.7.7/" + name:
			w.Write(program)
		case "/download/v6.6.6/" + name:
			w.Write(append(program[:len(program):len(program)], 0))
		case "/download/v1.2.3/SHA256SUMS", "/download/v6.6.6/SHA256SUMS":
			w.Write([]byte(sums))
		case "/download/v7.7.7/SHA256SUMS":
			w.Write([]byte(strings.ReplaceAll(sums, name, name+".sig")))
		default:
			http.NotFound(w, q)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, sum
}

// program returns the program that is tested.
func program(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(kit.Programs.Fastpull)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// job is a CI job: a working folder, and what its steps see of the environment.
type job struct {
	dir string
	env []string
}

func newJob(t *testing.T, list ...string) *job {
	t.Helper()
	j := &job{dir: t.TempDir()}
	j.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir(), "DOCKER_HOST=unix:///no/docker.sock"}
	kit.WriteFile(t, filepath.Join(j.dir, "images.txt"), strings.Join(list, "\n")+"\n")
	return j
}

// run runs a script as a step of the job.
func (j *job) run(t *testing.T, script string, env ...string) (out string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = j.dir, slices.Concat(j.env, env)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

func (j *job) file(name string) string { return filepath.Join(j.dir, name) }

// TestInstall installs releases: what does not have its checksum is not installed.
func TestInstall(t *testing.T) {
	t.Parallel()
	url, sum := releases(t, []byte("#!/bin/sh\necho fastpull v1.2.3\n"))
	script, err := filepath.Abs("../../deploy/ci/install.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ version, sha256, words string }{
		{"", "", ""},
		{"by wget", "", ""},
		{"to a relative path", "", ""},
		{"v1.2.3", "", ""},
		{"v1.2.3", sum, ""},
		{"v7.7.7", sum, ""},
		{"v1.2.3", strings.Repeat("0", 64), "does not have the checksum 0000"},
		{"v6.6.6", "", "does not have the checksum " + sum},
		{"v7.7.7", "", "SHA256SUMS does not name fastpull-linux-" + runtime.GOARCH},
		{"v9.9.9", "", "/download/v9.9.9/fastpull-linux-" + runtime.GOARCH + " could not be fetched"},
	} {
		j := newJob(t)
		if tc.version == "by wget" {
			tc.version = "v1.2.3"
			j.env[0] = "PATH=" + programs(t, "bash", "env", "uname", "mktemp", "rm", "wget", "grep", "sha256sum", "cut", "chmod", "mkdir", "mv")
		}
		if tc.version == "to a relative path" {
			tc.version = "v1.2.3"
			j.env = append(j.env, "FASTPULL_DIR=.fastpull")
		}
		out, err := j.run(t, script, "FASTPULL_VERSION="+tc.version, "FASTPULL_SHA256="+tc.sha256, "FASTPULL_RELEASES="+url)
		_, serr := os.Stat(j.file(".fastpull/fastpull"))
		if good := tc.words == ""; (err == nil) != good || (serr == nil) != good || !strings.Contains(out, tc.words) {
			t.Errorf("version %q, checksum %q: %v, %v\n%s", tc.version, tc.sha256, err, serr, out)
		}
		if left := kit.Names(t, strings.TrimPrefix(j.env[2], "TMPDIR=")); len(left) > 0 {
			t.Errorf("version %q: %q is left", tc.version, left)
		}
	}
}

// programs returns a folder with links to some programs.
func programs(t *testing.T, names ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(path, filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestPullIntoEngine runs the script of a job that has a Docker Engine and no store.
func TestPullIntoEngine(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	d := kit.StartDockerd(t, kit.DockerdOptions{PathFirst: kit.PlantUnpigz(t, "unpigz", "pigz").Dir})
	script, err := filepath.Abs("../../deploy/ci/pull.sh")
	if err != nil {
		t.Fatal(err)
	}
	j := newJob(t, s.Refs[1])
	out, err := j.run(t, script, "FASTPULL_DIR="+filepath.Dir(kit.Programs.Fastpull), "DOCKER_HOST=unix://"+d.Sock, "FASTPULL_ARGS=--jobs 2")
	if err != nil || !strings.Contains(out, s.Refs[1]+"@"+s.Images[1].Digest.String()+" → ") || !strings.Contains(out, "downloading") {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := d.Must(t, "run", "--rm", "--network", "none", s.Refs[1]); got != kit.Words[1] {
		t.Errorf("%s prints %q", s.Refs[1], got)
	}
	if _, err := os.Stat(j.file(".fastpull")); err == nil {
		t.Error("there is a store, or a cache")
	}
}

// TestPullFails runs the script of a job with an image that is not there and one with a damaged
// layer. The job fails with the code of the pull, has its outputs, and keeps what was fetched: the
// next job fetches the damaged layer and no other.
func TestPullFails(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	script, err := filepath.Abs("../../deploy/ci/pull.sh")
	if err != nil {
		t.Fatal(err)
	}
	whole, bad := kit.NoiseLayer(t, 1<<20, 7), kit.SmallLayer(t, "word", "broken\n")
	broken := s.Reg.Push(t, "broken:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{whole, bad}}))
	repair := s.Reg.Spoil(t, bad.Digest, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	j := newJob(t, s.Refs[2], broken, s.Reg.Addr+"/none:1")
	outputs := j.file("outputs")
	j.env = append(j.env, "FASTPULL_DIR="+filepath.Dir(kit.Programs.Fastpull), "FASTPULL_STORE=images", "FASTPULL_CACHE=store.tar",
		"FASTPULL_ARGS=--keep-going --jobs 1", "GITHUB_OUTPUT="+outputs)
	out, err := j.run(t, script)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(out, "none:1") {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(outputs)
	if want := "images<<end-of-images\n" + s.Refs[2] + "@" + s.Images[2].Digest.String() + "\nend-of-images\nstore=images\nreport=fastpull.jsonl\n"; err != nil || string(text) != want {
		t.Errorf("outputs: %v\n%s\nwant\n%s", err, text, want)
	}
	if text, err := os.ReadFile(j.file("fastpull.jsonl")); err != nil || !strings.Contains(string(text), `"result":"failed"`) {
		t.Errorf("report: %v\n%s", err, text)
	}
	kit.Run(t, "rm", "-rf", j.file("images"))
	repair()
	kit.WriteFile(t, j.file("images.txt"), s.Refs[2]+"\n"+broken+"\n")
	s.Reg.Traffic(t)
	if out, err := j.run(t, script); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	traffic := s.Reg.Traffic(t)
	for i, l := range append(s.Images[2].Layers, whole, bad) {
		if n, _ := traffic.Blob(l.Digest); (n > 0) != (l.Digest == bad.Digest) {
			t.Errorf("layer %d: %d requests", i, n)
		}
	}
}

// fakeSudo runs a command with the variables that it is told to preserve and no others.
const fakeSudo = `#!/usr/bin/env bash
keep=("PATH=$PATH")
IFS=, read -r -a names <<< "${1#--preserve-env=}"
for name in "${names[@]}"; do
  [ -z "${!name+set}" ] || keep+=("$name=${!name}")
done
shift
exec env -i "${keep[@]}" "$@"
`

// TestPullBySudo runs the script as a user that becomes root by sudo. fastpull sees what the job
// says about the Engine, credentials, certificates and proxies.
func TestPullBySudo(t *testing.T) {
	t.Parallel()
	script, err := filepath.Abs("../../deploy/ci/pull.sh")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for name, text := range map[string]string{"sudo": fakeSudo, "id": "#!/bin/sh\necho 1000\n", "fastpull": "#!/bin/sh\nenv\n"} {
		kit.WriteFile(t, filepath.Join(bin, name), text)
		if err := os.Chmod(filepath.Join(bin, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	j := newJob(t)
	j.env[0] = "PATH=" + bin + ":" + os.Getenv("PATH")
	var want []string
	for _, name := range []string{
		"DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "DOCKER_CONFIG", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME",
		"REGISTRY_AUTH_FILE", "SSL_CERT_FILE", "SSL_CERT_DIR", "FASTPULL_GZIP", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	} {
		want = append(want, name+"=of the job, "+name)
	}
	out, err := j.run(t, script, append(want, "FASTPULL_DIR="+bin, "FASTPULL_SUDO=1", "OTHER=not for root")...)
	if err != nil || strings.Contains(out, "OTHER=") {
		t.Errorf("%v\n%s", err, out)
	}
	got := strings.Split(out, "\n")
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("fastpull does not see %s", line)
		}
	}
}

// expression is one of GitHub's, in an action.
var expression = regexp.MustCompile(`\$\{\{ (.*?) \}\}`)

// action is action.yml.
type action struct {
	Inputs  map[string]struct{ Default string }
	Outputs map[string]struct{ Value string }
	Runs    struct {
		Steps []struct {
			ID, If, Uses, Shell, Run string
			With, Env                map[string]string
		}
	}
}

// TestAction runs the steps of the GitHub action as a runner does, with a cache that is a
// folder. The second job has the store from the cache, and fetches no layer.
func TestAction(t *testing.T) {
	t.Parallel()
	a := decoded[action](t, "json", "../../action.yml")[0]
	url, _ := releases(t, program(t))
	s := kit.NewShipment(t)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(t.TempDir(), "cached")
	for n, wantBlobs := range []bool{true, false} {
		s.Reg.Traffic(t)
		j := newJob(t, s.Refs[0], s.Refs[2])
		outputs := filepath.Join(t.TempDir(), "outputs")
		values := map[string]string{
			"github.workspace": j.dir, "inputs.store && '.fastpull/store.tar' || ''": ".fastpull/store.tar", "inputs.sudo == 'true' && '1' || ''": "1",
			"inputs.version": "v1.2.3", "inputs.releases": url,
		}
		for name, in := range a.Inputs {
			if _, ok := values["inputs."+name]; !ok {
				values["inputs."+name] = in.Default
			}
		}
		uses := 0
		for _, step := range a.Runs.Steps {
			switch {
			case strings.HasPrefix(step.Uses, "actions/cache/restore@"):
				uses++
				if data, err := os.ReadFile(cache); err == nil {
					kit.WriteFile(t, j.file(step.With["path"]), string(data))
				}
			case strings.HasPrefix(step.Uses, "actions/cache/save@"):
				uses++
				if !strings.HasPrefix(step.If, "${{ !cancelled() && ") || !strings.Contains(step.With["key"], "steps.pull.outcome == 'failure'") {
					t.Errorf("after a failure nothing is saved, or as if all was there: %+v", step)
				}
				data, err := os.ReadFile(j.file(step.With["path"]))
				if err != nil {
					t.Fatal(err)
				}
				kit.WriteFile(t, cache, string(data))
			case step.Shell != "bash" || step.Run == "":
				t.Fatalf("a step that the test does not know: %+v", step)
			default:
				env := []string{"GITHUB_ACTION_PATH=" + root, "GITHUB_OUTPUT=" + outputs}
				for name, value := range step.Env {
					env = append(env, name+"="+expression.ReplaceAllStringFunc(value, func(e string) string {
						v, ok := values[expression.FindStringSubmatch(e)[1]]
						if !ok {
							t.Fatalf("the test does not know %s", e)
						}
						return v
					}))
				}
				if out, err := j.run(t, step.Run, env...); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
		}
		if blobs, _ := s.Reg.Traffic(t).Blobs(); (blobs > 0) != wantBlobs || uses != 2 {
			t.Errorf("job %d: %d requests for blobs, %d steps of the cache", n+1, blobs, uses)
		}
		expectJob(t, j, s, ".fastpull/images")
		text, err := os.ReadFile(outputs)
		if err != nil || !strings.Contains(string(text), s.Refs[2]+"@"+s.Images[2].Digest.String()+"\nend-of-images\nstore=.fastpull/images\nreport=fastpull.jsonl\n") {
			t.Errorf("outputs: %v\n%s", err, text)
		}
		if hit := a.Outputs["cache-hit"].Value; hit != "${{ steps.cache.outputs.cache-hit || 'false' }}" { // empty without a cache
			t.Errorf("cache-hit is %s", hit)
		}
		for name, out := range a.Outputs {
			if part := strings.TrimPrefix(expression.FindStringSubmatch(out.Value)[1], "steps.pull.outputs."); part == name && !strings.Contains(string(text), name+"=") && !strings.Contains(string(text), name+"<<") {
				t.Errorf("there is no output %s", name)
			}
		}
	}
}

// expectJob checks what a job has: the images, the report, and an archive of the store.
func expectJob(t *testing.T, j *job, s *kit.Shipment, store string) {
	t.Helper()
	kit.Fastpull(t, "verify", "--store", j.file(store)).Expect(t, 0)
	listed := kit.Fastpull(t, "images", "--store", j.file(store), "-q").Expect(t, 0).Stdout
	if !strings.Contains(listed, s.Images[0].ID.Hex) && !strings.Contains(listed, s.Refs[0]) {
		t.Errorf("the store has:\n%s", listed)
	}
	text, err := os.ReadFile(j.file("fastpull.jsonl"))
	var line report
	if err == nil {
		err = json.Unmarshal(text, &line)
	}
	if err != nil || line.Result != "done" || len(line.Images) != 2 {
		t.Errorf("report: %v\n%s", err, text)
	}
	if _, err := os.Stat(j.file(".fastpull/store.tar")); err != nil {
		t.Error(err)
	}
}

// component is the second document of the GitLab component.
type component struct {
	Variables map[string]string
	Script    []string
	Cache     struct {
		Paths []string
		When  string
	}
	Artifacts struct {
		Paths   []string
		Reports struct{ Dotenv string }
		When    string
	}
}

// TestComponent runs the script of the GitLab component, which is that of deploy/ci.
func TestComponent(t *testing.T) {
	t.Parallel()
	docs := decoded[json.RawMessage](t, "json", "../../templates/pull.yml")
	var spec struct {
		Spec struct {
			Inputs map[string]struct{ Default string }
		}
	}
	jobs := make(map[string]component)
	if err := json.Unmarshal(docs[0], &spec); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(docs[1], &jobs); err != nil {
		t.Fatal(err)
	}
	c, ok := jobs["$[[ inputs.job ]]"]
	if !ok || len(c.Script) != 2 || !slices.Equal(c.Cache.Paths, []string{".fastpull/store.tar"}) {
		t.Fatalf("jobs: %+v", jobs)
	}
	if c.Cache.When != "always" || c.Artifacts.When != "always" || !slices.Contains(c.Artifacts.Paths, "fastpull.jsonl") {
		t.Errorf("not kept after a failure: %+v, %+v", c.Cache, c.Artifacts)
	}
	for name := range decoded[action](t, "json", "../../action.yml")[0].Outputs {
		if !strings.Contains(c.Script[1], `echo "`+strings.ReplaceAll(name, "-", "_")+"=") {
			t.Errorf("the component has no output %s", name)
		}
	}
	for i, name := range []string{"install", "pull"} {
		text, err := os.ReadFile("../../deploy/ci/" + name + ".sh")
		if err != nil {
			t.Fatal(err)
		}
		_, text2, _ := strings.Cut(string(text), "\n")
		end := "END_OF_" + strings.ToUpper(name)
		if want := "bash <<'" + end + "'\n" + text2 + end + "\n"; c.Script[i] != want {
			t.Errorf("the component does not have deploy/ci/%s.sh", name)
		}
	}
	url, _ := releases(t, program(t))
	s := kit.NewShipment(t)
	j := newJob(t, s.Refs[0], "# and", s.Refs[2])
	for name, value := range c.Variables {
		for in, d := range spec.Spec.Inputs {
			if in == "releases" {
				d.Default = url
			}
			value = strings.ReplaceAll(value, "$[[ inputs."+in+" ]]", d.Default)
		}
		j.env = append(j.env, name+"="+value)
	}
	for n := range 2 { // the folder is that of a runner, which keeps the cache
		s.Reg.Traffic(t)
		os.Remove(j.file("fastpull.jsonl"))
		if out, err := j.run(t, strings.Join(c.Script, "\n")); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if blobs, _ := s.Reg.Traffic(t).Blobs(); (blobs > 0) != (n == 0) {
			t.Errorf("run %d: %d requests for blobs", n+1, blobs)
		}
		expectJob(t, j, s, ".fastpull/images")
		images := s.Refs[0] + "@" + s.Images[0].Digest.String() + "," + s.Refs[2] + "@" + s.Images[2].Digest.String()
		expectDotenv(t, j.file(c.Artifacts.Reports.Dotenv), "store=.fastpull/images", "report=fastpull.jsonl", fmt.Sprintf("cache_hit=%v", n > 0), "images="+images)
		kit.Run(t, "rm", "-rf", j.file(".fastpull/images"))
	}
	// A failure is one of the job.
	kit.WriteFile(t, j.file("images.txt"), s.Reg.Addr+"/none:1\n")
	if out, err := j.run(t, strings.Join(c.Script, "\n")); err == nil || !strings.Contains(out, "none:1") {
		t.Errorf("an image that is not there: %v\n%s", err, out)
	}
	expectDotenv(t, j.file(c.Artifacts.Reports.Dotenv), "store=.fastpull/images", "report=fastpull.jsonl", "cache_hit=true", "images=")
	// So many images that GitLab would refuse them.
	bin := t.TempDir()
	fake := filepath.Join(bin, "fastpull")
	kit.WriteFile(t, fake, "#!/bin/sh\nseq -f 'registry.invalid/image:%g → store' 200\n")
	if err := os.Chmod(fake, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := j.run(t, c.Script[1], "FASTPULL_DIR="+bin, "FASTPULL_STORE="); err != nil || !strings.Contains(out, "images is left out") {
		t.Errorf("%v\n%s", err, out)
	}
	expectDotenv(t, j.file(c.Artifacts.Reports.Dotenv), "store=", "report=fastpull.jsonl", "cache_hit=false")
}

// expectDotenv checks the outputs of the GitLab component, which are those of the action. GitLab
// allows no hyphens in their names.
func expectDotenv(t *testing.T, name string, want ...string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if got := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"); err != nil || !slices.Equal(got, want) {
		t.Errorf("outputs: %v\n%q, want\n%q", err, got, want)
	}
}
