package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
)

// build makes an image of two programs that only look like some.
func build(t *testing.T, created string) (file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "image.tar")
	args := []string{"-o", file, "-name", "host:5000/fastpull:v1", "-version", "v1", "-revision", "abc", "-created", created}
	for _, arch := range []string{"amd64", "arm64"} {
		program := filepath.Join(dir, arch)
		if err := os.WriteFile(program, []byte("for "+arch), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "linux/"+arch+"="+program)
	}
	if err := run(t.Context(), args); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestReproducible makes the image twice, in different directories, and compares all bytes.
// Another time gives others.
func TestReproducible(t *testing.T) {
	sum := func(file string) digest.Digest {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return digest.FromBytes(data)
	}
	t.Setenv("TZ", "Pacific/Apia")
	first := sum(build(t, "1700000000"))
	if again := sum(build(t, "1700000000")); again != first {
		t.Errorf("%s and %s", first, again)
	}
	if later := sum(build(t, "1700000001")); later == first {
		t.Error("the time makes no difference")
	}
	if err := run(t.Context(), []string{"-o", "x", "-name", "x", "-version", "x", "linux/amd64=x"}); err == nil || !strings.Contains(err.Error(), "-created") {
		t.Errorf("without a time: %v", err)
	}
}

// TestImage reads the image as fastpull load does.
func TestImage(t *testing.T) {
	r, err := bundle.Open(context.Background(), build(t, "1700000000"), bundle.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if len(r.Entries()) != 1 || r.Entries()[0].Name != "host:5000/fastpull:v1" {
		t.Fatalf("entries: %+v", r.Entries())
	}
	var index ocispec.Index
	decode(t, r, r.Entries()[0].Descriptor, &index)
	if len(index.Manifests) != 2 {
		t.Fatalf("%d platforms", len(index.Manifests))
	}
	for i, arch := range []string{"amd64", "arm64"} {
		d := index.Manifests[i]
		var manifest ocispec.Manifest
		var config ocispec.Image
		decode(t, r, d, &manifest)
		decode(t, r, manifest.Config, &config)
		if d.Platform.Architecture != arch || config.Architecture != arch || config.OS != "linux" {
			t.Errorf("platform %d: %+v, %+v", i, d.Platform, config.Platform)
		}
		files := make(map[string]string)
		for n, l := range manifest.Layers {
			data := blob(t, r, l)
			if config.RootFS.DiffIDs[n] != digest.FromBytes(data) || l.MediaType != ocispec.MediaTypeImageLayer {
				t.Errorf("layer %d is not a plain tar", n)
			}
			read(t, data, files)
		}
		if files["fastpull"] != "for "+arch {
			t.Errorf("the program is %q", files["fastpull"])
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(files["etc/ssl/certs/ca-certificates.crt"])) {
			t.Error("there are no authorities")
		}
		if n := strings.Count(files["etc/ssl/certs/ca-certificates.crt"], "BEGIN CERTIFICATE"); n < 80 {
			t.Errorf("only %d authorities", n)
		}
		if _, ok := files["var/tmp/"]; !ok {
			t.Error("there is no /var/tmp")
		}
	}
}

func blob(t *testing.T, r *bundle.Reader, d ocispec.Descriptor) []byte {
	t.Helper()
	b, err := r.Blob(d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(b)
	if err != nil || digest.FromBytes(data) != d.Digest {
		t.Fatalf("%s: %v", d.Digest, err)
	}
	return data
}

func decode(t *testing.T, r *bundle.Reader, d ocispec.Descriptor, to any) {
	t.Helper()
	if err := json.Unmarshal(blob(t, r, d), to); err != nil {
		t.Fatal(err)
	}
}

// read reads the files of a tar, all of which have to be root's and of one time.
func read(t *testing.T, data []byte, files map[string]string) {
	t.Helper()
	for in := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := in.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 1700000000 {
			t.Errorf("%s: %+v", h.Name, h)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(content)
	}
}
