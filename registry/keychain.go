package registry

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strings"
	"sync"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/fastpull/fastpull/internal/homedir"
)

// files finds credentials in several files of Docker's format.
type files []source

// source is one of them.
type source struct {
	path  string
	asked bool // for by name: then it has to be there
	// once reads a file that can be read only once, such as the pipe of a shell's process
	// substitution. It is nil if the file is not asked for by name.
	once func() (*configfile.ConfigFile, error)
}

// named returns the source of a file that is asked for by name.
func named(path string) source {
	s := source{path: path, asked: true}
	s.once = sync.OnceValues(s.read)
	return s
}

var _ authn.Keychain = files(nil)

// NewKeychain returns a keychain that reads credentials from a file. If file is "", it reads the
// files of Docker and Podman: $REGISTRY_AUTH_FILE, Docker's config.json with its credential
// helpers, and Podman's auth.json. The first file with credentials for a registry counts.
func NewKeychain(file string) authn.Keychain {
	if file != "" {
		return files{named(file)}
	}
	var list files
	if path := os.Getenv("REGISTRY_AUTH_FILE"); path != "" {
		list = append(list, named(path))
	}
	if path := dockerConfigFile(); path != "" {
		list = append(list, source{path: path})
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		list = append(list, source{path: filepath.Join(dir, "containers/auth.json")})
	}
	if dir, err := os.UserConfigDir(); err == nil {
		list = append(list, source{path: filepath.Join(dir, "containers/auth.json")})
	}
	return list
}

// readable checks that a keychain can read the file that it was made with. A keychain of another
// kind does not read it.
func readable(k authn.Keychain, file string) error {
	list, ok := k.(files)
	if !ok {
		list = files{named(file)}
	}
	_, err := list[0].load()
	return err
}

// homeOf returns the home directory of a user. It is a variable for tests.
var homeOf = func(name string) (string, error) {
	who, err := osuser.Lookup(name)
	if err != nil {
		return "", err
	}
	return who.HomeDir, nil
}

// othersLogin returns the file with the login of the user that SUDO_USER names. It returns
// "" if there is no such file, or if the client reads that file anyway.
func othersLogin() string {
	if os.Geteuid() != 0 || os.Getenv("SUDO_USER") == "" {
		return ""
	}
	dir, err := homeOf(os.Getenv("SUDO_USER"))
	if err != nil {
		return ""
	}
	file := filepath.Join(dir, ".docker", config.ConfigFileName)
	if st, err := os.Stat(file); err != nil || !st.Mode().IsRegular() || file == dockerConfigFile() {
		return ""
	}
	return file
}

// dockerConfigFile returns where docker login leaves credentials. It is "" for a user without a
// home directory.
func dockerConfigFile() string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, config.ConfigFileName)
	}
	home, err := homedir.Find()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker", config.ConfigFileName)
}

// Resolve implements [authn.Keychain]. An error of one source is told only if
// no other has the credentials.
func (f files) Resolve(target authn.Resource) (authn.Authenticator, error) {
	var failure error
	for _, s := range f {
		cf, err := s.load()
		var found types.AuthConfig
		var note string
		if err == nil && cf != nil {
			found, note, err = lookUp(cf, target)
		}
		found.ServerAddress = "" // is always set
		if err == nil && found != (types.AuthConfig{}) {
			return storedAuth{authn.FromConfig(authn.AuthConfig{
				Username: found.Username, Password: found.Password, Auth: found.Auth,
				IdentityToken: found.IdentityToken, RegistryToken: found.RegistryToken,
			}), s.credentialStore(cf, target), note}, nil
		}
		failure = cmp.Or(failure, err)
	}
	if failure != nil {
		return nil, failure
	}
	return authn.Anonymous, nil
}

// storedAuth is an authenticator that knows where its credentials are stored.
type storedAuth struct {
	authn.Authenticator
	where string
	note  string // warning about where they are stored, or ""
}

// credentialStore returns where the credentials for a registry are stored: the helper that the
// file names for it, or the file.
func (s source) credentialStore(cf *configfile.ConfigFile, target authn.Resource) string {
	registry := target.RegistryStr()
	if registry == name.DefaultRegistry {
		registry = authn.DefaultAuthKey
	}
	if helper := cmp.Or(cf.CredentialHelpers[registry], cf.CredentialsStore); helper != "" {
		return "docker-credential-" + helper
	}
	return s.path
}

// load returns what is in the file; it is nil if there is none.
func (s source) load() (*configfile.ConfigFile, error) {
	if s.once != nil {
		if st, err := os.Stat(s.path); err == nil && !st.Mode().IsRegular() {
			return s.once()
		}
	}
	return s.read()
}

func (s source) read() (*configfile.ConfigFile, error) {
	open := openRegular
	if s.asked {
		open = os.Open
	}
	file, err := open(s.path)
	if errors.Is(err, fs.ErrNotExist) && !s.asked {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	cf, err := config.LoadFromReader(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.path, err)
	}
	return cf, nil
}

// lookUp finds the credentials for a repository in a file. As Podman does, it first looks for
// the repository and the parts of its path. Then it looks for the registry, for which it may ask
// a helper.
func lookUp(cf *configfile.ConfigFile, target authn.Resource) (found types.AuthConfig, note string, err error) {
	registry := target.RegistryStr()
	hub := registry == name.DefaultRegistry
	for key := target.String(); strings.Contains(key, "/"); key = key[:strings.LastIndexByte(key, '/')] {
		keys := []string{key}
		if hub {
			keys = append(keys, "docker.io"+strings.TrimPrefix(key, registry))
		}
		for _, key := range keys {
			if found, ok := cf.AuthConfigs[key]; ok {
				return found, "", nil
			}
		}
	}
	if !hub {
		return ask(cf, registry)
	}
	found, note, err = ask(cf, authn.DefaultAuthKey)
	if err == nil && found.Username == "" && found.IdentityToken == "" && found.RegistryToken == "" {
		found = cf.AuthConfigs["docker.io"] // as Podman has it
	}
	return found, note, err
}

// errHelper is in the error for a credential helper that is not there.
var errHelper = errors.New("it is not installed, or not in PATH")

// ask asks the helper that a file names for a registry. Where it is not there, the file may
// have a password, from before the helper or as docker login leaves one.
func ask(cf *configfile.ConfigFile, key string) (found types.AuthConfig, note string, err error) {
	helper := cmp.Or(cf.CredentialHelpers[key], cf.CredentialsStore)
	if helper == "" {
		found, err = cf.GetAuthConfig(key)
		return found, "", err
	}
	program := "docker-credential-" + helper
	if _, err := exec.LookPath(program); err == nil {
		found, err = cf.GetAuthConfig(key)
		return found, "", err
	}
	plain := *cf
	plain.CredentialHelpers, plain.CredentialsStore = nil, ""
	found, err = plain.GetAuthConfig(key)
	if err == nil && found.Username == "" && found.IdentityToken == "" && found.RegistryToken == "" {
		return found, "", fmt.Errorf("credential helper %s: %w", program, errHelper)
	}
	return found, fmt.Sprintf("credential helper %s: %v: using the password in the file; take the helper out of the file (credsStore, credHelpers)", program, errHelper), err
}
