package registry_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/registry"
)

// A name is read as docker pull reads it.
func ExampleParseReference() {
	ref, err := registry.ParseReference("ubuntu:24.04")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ref.Full(), ref.Tag(), ref.Familiar())
	// Output: docker.io/library/ubuntu 24.04 ubuntu
}

// A Client fetches manifests and blobs. It retries and resumes by itself.
func ExampleClient() {
	const manifest, layer = `{"schemaVersion":2,"manifests":[]}`, "the bytes of a layer"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			_, _ = io.WriteString(w, manifest)
			return
		}
		_, _ = io.WriteString(w, layer)
	}))
	defer server.Close()

	client, err := registry.New(registry.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ref, err := registry.ParseReference(server.Listener.Addr().String() + "/img:1.2")
	if err != nil {
		log.Fatal(err)
	}
	m, err := client.Manifest(context.Background(), ref)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.MediaType, m.Digest == digest.FromString(manifest))

	// The caller hashes a blob: the reader checks its size only.
	d := ocispec.Descriptor{Digest: digest.FromString(layer), Size: int64(len(layer))}
	blob, err := client.Blob(context.Background(), ref, d)
	if err != nil {
		log.Fatal(err)
	}
	defer blob.Close()
	sum := d.Digest.Verifier()
	n, err := io.Copy(sum, blob)
	fmt.Println(n, err, sum.Verified())
	// Output:
	// application/vnd.oci.image.index.v1+json true
	// 20 <nil> true
}
