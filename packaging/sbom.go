package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/google/uuid"
)

// sbomSuffix is what the name of a binary's SBOM ends in, by the convention of CycloneDX.
const sbomSuffix = ".cdx.json"

// sbom returns the software bill of materials of a binary: the modules that were linked, as
// the linker has noted them in it. Their dependencies among each other are not in a binary,
// so that all are listed as those of the program.
func (r release) sbom(b binary, l licences) ([]byte, error) {
	content, err := os.ReadFile(b.path)
	if err != nil {
		return nil, err
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(content))
	program := cyclonedx.Component{
		Type: cyclonedx.ComponentTypeApplication, Name: b.info.Main.Path, Version: r.version,
		PackageURL: packageURL(b.info.Main.Path, r.version) + "?goos=linux&goarch=" + b.arch,
		Hashes:     &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: digest}},
		Licenses:   licenceChoice([]string{"Apache-2.0"}),
	}
	program.BOMRef = program.PackageURL
	modules := []cyclonedx.Component{component(standard, b.info.GoVersion, l)}
	for _, d := range b.info.Deps {
		modules = append(modules, component(d.Path, d.Version, l))
	}
	var refs []string
	for _, m := range modules {
		refs = append(refs, m.BOMRef)
	}
	bom := cyclonedx.NewBOM()
	bom.SerialNumber = uuid.NewSHA1(uuid.NameSpaceURL, []byte(digest)).URN()
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: r.date.Format(time.RFC3339), Component: &program,
		Lifecycles: &[]cyclonedx.Lifecycle{{Phase: cyclonedx.LifecyclePhasePostBuild}},
	}
	bom.Components = &modules
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: program.BOMRef, Dependencies: &refs}}
	var out bytes.Buffer
	// Version 1.5 is what most readers know; all that is said here has been in it.
	err = cyclonedx.NewBOMEncoder(&out, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cyclonedx.SpecVersion1_5)
	return out.Bytes(), err
}

// component describes a module.
func component(path, version string, l licences) cyclonedx.Component {
	ids := l.of(path, version)
	if path == standard {
		version = strings.TrimPrefix(version, "go")
	}
	where := packageURL(path, version)
	return cyclonedx.Component{
		BOMRef: where, Type: cyclonedx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: where,
		Scope: cyclonedx.ScopeRequired, Licenses: licenceChoice(ids),
	}
}

// packageURL names a module as https://github.com/package-url/purl-spec has it. Scanners
// compare it with the module's path, so its case stays.
func packageURL(path, version string) string {
	return "pkg:golang/" + path + "@" + url.QueryEscape(version)
}

func licenceChoice(ids []string) *cyclonedx.Licenses {
	if ids == nil {
		return nil
	}
	var list cyclonedx.Licenses
	for _, id := range ids {
		list = append(list, cyclonedx.LicenseChoice{License: &cyclonedx.License{ID: id}})
	}
	return &list
}
