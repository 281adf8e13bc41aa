package registry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	helpers "github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/safepath"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// helperTimeout is for a credential helper that is to keep something, which may
// ask its user to unlock a keyring.
const helperTimeout = 2 * time.Minute

// Save keeps a password where docker login would: with the credential helper
// that Docker's config.json names for the registry, or in that file. It returns
// where that is.
func (a Account) Save(ctx context.Context, password string) (where string, err error) {
	f, err := openDockerConfig(a.File)
	if err != nil {
		return "", err
	}
	helper := f.helper(a.key())
	entry := map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(a.User + ":" + password))}
	if helper != "" {
		creds, err := json.Marshal(helpers.Credentials{ServerURL: a.key(), Username: a.User, Secret: password})
		if err != nil {
			return "", err
		}
		if _, err := runHelper(ctx, helper, helpers.ActionStore, bytes.NewReader(creds)); err != nil {
			return "", err
		}
		entry, where = map[string]string{}, helper // that there is a login is for all to see
	}
	f.drop(a)
	if f.auths[a.key()], err = json.Marshal(entry); err != nil {
		return "", err
	}
	err = f.save()
	return cmp.Or(where, f.path), err
}

// Forget removes what [Account.Save] or docker login has kept for the registry,
// for whatever user, and reports whether there was anything.
func (a Account) Forget(ctx context.Context) (found bool, err error) {
	f, err := openDockerConfig(a.File)
	if err != nil {
		return false, err
	}
	if helper := f.helper(a.key()); helper != "" {
		if found, err = runHelper(ctx, helper, helpers.ActionErase, strings.NewReader(a.key())); err != nil {
			return false, err
		}
	}
	if !f.drop(a) {
		return found, nil
	}
	return true, f.save()
}

// runHelper runs a credential helper. It returns false if that has nothing for
// the registry.
func runHelper(ctx context.Context, helper, action string, in io.Reader) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, helper, action)
	cmd.Stdin = in
	cmd.WaitDelay = time.Second
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	words := strings.TrimSpace(said.String())
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, fmt.Errorf("credential helper %s: %w", helper, ctx.Err())
	case helpers.IsErrCredentialsNotFoundMessage(words):
		return false, nil
	case errors.Is(err, exec.ErrNotFound):
		return false, fault.WithHint(fault.New(fault.NotFound, "credential helper %s: %w", helper, err),
			"Docker's config.json names it (credsStore, credHelpers): install it, or take it out there")
	}
	return false, fmt.Errorf("credential helper %s: %w: %s", helper, err, cut(words, errorTextLimit))
}

// dockerConfig is Docker's config.json, of which only what is meant to change
// does.
type dockerConfig struct {
	path  string
	info  fs.FileInfo                // of the file, nil if there was none
	keys  map[string]json.RawMessage // all of it
	auths map[string]json.RawMessage // its "auths"
}

// openDockerConfig reads a file in the format of Docker's config.json, by default that one.
func openDockerConfig(path string) (*dockerConfig, error) {
	f := &dockerConfig{path: cmp.Or(path, dockerConfigFile()), keys: map[string]json.RawMessage{}, auths: map[string]json.RawMessage{}}
	if f.path == "" {
		return nil, fault.WithHint(fault.New(fault.Usage, "there is no place for Docker's configuration: the user has no home directory"), "set HOME, or name a file with --authfile")
	}
	file, err := openRegular(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fileError("Docker's configuration", err)
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err == nil {
		f.info, err = file.Stat()
	}
	if err != nil {
		return nil, fileError("Docker's configuration", err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return f, nil
	}
	err = json.Unmarshal(data, &f.keys)
	if auths := f.keys["auths"]; err == nil && auths != nil {
		err = json.Unmarshal(auths, &f.auths)
	}
	if err != nil {
		return nil, fmt.Errorf("read Docker's configuration %s, which is left as it is: %w", f.path, err)
	}
	if f.keys == nil {
		f.keys = map[string]json.RawMessage{} // the file says null
	}
	if f.auths == nil {
		f.auths = map[string]json.RawMessage{}
	}
	return f, nil
}

// openRegular opens a file for reading if it is a regular one. Others, such as a FIFO,
// could keep the reader waiting for ever.
func openRegular(name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := file.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("it is not a regular file")}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// helper returns the program that keeps the credentials of a registry, or "".
func (f *dockerConfig) helper(key string) string {
	var store string
	var byHost map[string]string
	// What is no string or no map names no helper, as in Docker.
	_ = json.Unmarshal(f.keys["credsStore"], &store)
	_ = json.Unmarshal(f.keys["credHelpers"], &byHost)
	if name := cmp.Or(byHost[key], store); name != "" {
		return "docker-credential-" + name
	}
	return ""
}

// drop removes what "auths" has of a registry, and reports whether there was anything. That may be
// under an address, as older versions of Docker wrote it, or for Docker Hub under Podman's name.
func (f *dockerConfig) drop(a Account) bool {
	before := len(f.auths)
	maps.DeleteFunc(f.auths, func(key string, _ json.RawMessage) bool {
		address := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
		address = strings.TrimSuffix(strings.TrimSuffix(address, "/"), "/v1")
		return address == a.host || a.host == name.DefaultRegistry && address == "docker.io"
	})
	return len(f.auths) < before
}

// save replaces the file at once, by one that only its owner can read.
func (f *dockerConfig) save() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write Docker's configuration %s: %w", f.path, err)
			if errors.Is(err, fs.ErrPermission) {
				err = fault.Wrap(fault.Denied, err)
			}
		}
	}()
	if f.keys["auths"], err = json.Marshal(f.auths); err != nil {
		return err
	}
	data, err := json.MarshalIndent(f.keys, "", "\t")
	if err != nil {
		return err
	}
	dir, err := safepath.Make(filepath.Dir(f.path), 0o700)
	if err != nil {
		return err
	}
	defer dir.Close()
	// The file may be a symbolic link into a collection of settings.
	place, err := safepath.Find(f.path)
	if err != nil {
		return err
	}
	defer place.Close()
	f.path = place.Join(place.Base)
	tmp, err := tmpfile.New(place.Dir, 0o600)
	if err != nil {
		return err
	}
	defer tmp.Close()
	if _, err := tmp.Write(append(data, '\n')); err != nil {
		return err
	}
	// Root may do it for the user whose home this is.
	if f.info != nil {
		if st, ok := f.info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
			if err := tmp.Chown(int(st.Uid), int(st.Gid)); err != nil {
				return err
			}
		}
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	return tmp.Publish(place.Base)
}
