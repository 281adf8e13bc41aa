// Package tarsplit writes the record of a tar that Docker keeps with each layer, in the form
// of github.com/vbatts/tar-split: the bytes of headers and padding, and a checksum of each
// file. Docker makes the same tar of that record and the files again.
package tarsplit

import (
	"strings"

	"github.com/vbatts/tar-split/archive/tar"
)

// ContentSize returns how many bytes of content follow a header. Some types of entry have
// none, whatever size their header gives.
func ContentSize(h *tar.Header) int64 {
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return 0
	}
	return h.Size
}

// Sparse reports whether an entry can have more bytes than the tar (GNU tar's manual,
// "Storing Sparse Files").
func Sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}
