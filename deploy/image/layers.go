package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// baseLayer returns the layer with all but the program. It is the same for all platforms, and
// changes only with the authorities.
func baseLayer(created time.Time) ([]byte, error) {
	return layer(created, []entry{
		{"etc/", 0o755, nil}, {"etc/ssl/", 0o755, nil}, {"etc/ssl/certs/", 0o755, nil},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, authorities()}, // where Go looks first
		{"tmp/", 0o1777, nil},
		{"var/", 0o755, nil}, {"var/tmp/", 0o1777, nil}, // for layers on their way to an Engine
	})
}

// programLayer returns the layer with fastpull.
func programLayer(program []byte, created time.Time) ([]byte, error) {
	return layer(created, []entry{{programName, 0o755, program}})
}

// programName is where the program is, below the root.
const programName = "fastpull"

// authorities returns the certificates that are trusted without a constraint, as PEM.
func authorities() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // into memory
		}
	}
	return b.Bytes()
}

// entry is a file of a layer, or a directory if the name ends in a slash. It is root's.
type entry struct {
	name string
	mode int64
	data []byte
}

// layer returns a plain tar.
func layer(created time.Time, entries []entry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.data)), ModTime: created, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if e.data == nil {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}
