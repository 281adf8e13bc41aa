package main

import (
	"bytes"
	"debug/buildinfo"
	"os"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
)

// TestSBOM reads the SBOM of a program, the test itself.
func TestSBOM(t *testing.T) {
	info, err := buildinfo.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	b := binary{path: os.Args[0], arch: "amd64", info: info}
	r := release{version: "v1.2.3", date: day}
	l := licences{{Path: "github.com/spf13/cobra", Version: version(b, "github.com/spf13/cobra")}: {ids: []string{"Apache-2.0"}}}
	data, err := r.sbom(b, l)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.sbom(b, l); err != nil || !bytes.Equal(data, again) {
		t.Errorf("made again it differs: %v", err)
	}
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(data), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.Metadata.Timestamp != "2026-11-29T12:00:00Z" || bom.Metadata.Component.Version != "v1.2.3" || len(*bom.Metadata.Component.Hashes) != 1 {
		t.Errorf("metadata: %+v", bom.Metadata)
	}
	if n := len(*bom.Components); n != len(info.Deps)+1 || n < 10 {
		t.Errorf("%d components of %d modules", n, len(info.Deps))
	}
	if deps := *bom.Dependencies; len(deps) != 1 || deps[0].Ref != bom.Metadata.Component.BOMRef || len(*deps[0].Dependencies) != len(*bom.Components) {
		t.Errorf("dependencies: %+v", deps)
	}
	refs := make(map[string]bool)
	for _, c := range *bom.Components {
		if refs[c.BOMRef] || !strings.HasPrefix(c.PackageURL, "pkg:golang/"+c.Name+"@") || c.Version == "" {
			t.Errorf("component %+v", c)
		}
		refs[c.BOMRef] = true
		if want := c.Name == "github.com/spf13/cobra"; (c.Licenses != nil && len(*c.Licenses) == 1) != want {
			t.Errorf("licences of %s: %v", c.Name, c.Licenses)
		}
	}
	if got := packageURL("example.com/m", "v1.0.0+incompatible"); got != "pkg:golang/example.com/m@v1.0.0%2Bincompatible" {
		t.Errorf("package URL %s", got)
	}
}

// version returns that of a module that is linked into a program.
func version(b binary, path string) string {
	for _, d := range b.info.Deps {
		if d.Path == path {
			return d.Version
		}
	}
	return ""
}
