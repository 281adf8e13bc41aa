package overlay

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
)

// entry is what layerdb says of a layer, whatever is missing of it. Fields that
// cannot be read are "".
type entry struct {
	chain, diffID, parent digest.Digest
	cacheID               string
}

// entryOf reads the entry of a layer.
func (r *Reader) entryOf(chain digest.Digest) entry {
	e, _ := r.readEntry(chain)
	return e
}

// readEntry is entryOf with an error of [fault.Exhausted], after which a file of the entry may
// exist although the field is empty.
func (r *Reader) readEntry(chain digest.Digest) (_ entry, lacks error) {
	get := func(file string) string {
		data, err := os.ReadFile(r.path("image/overlay2/layerdb/sha256", chain.Encoded(), file))
		if fault.Exhausted(err) {
			lacks = err
		}
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(data))
	}
	e := entry{chain: chain, diffID: digest.Digest(get("diff")), parent: digest.Digest(get("parent")), cacheID: get("cache-id")}
	if e.diffID.Validate() != nil {
		e.diffID = ""
	}
	if e.parent.Validate() != nil {
		e.parent = ""
	}
	if !isCacheID(e.cacheID) {
		e.cacheID = ""
	}
	return e, lacks
}

// isCacheID reports whether it can be a layer's folder in overlay2/. In l/ are the links of
// all layers.
func isCacheID(s string) bool { return s != "" && s != "l" && !strings.ContainsAny(s, "/.") }

// entries reads all entries that have the name of a layer.
func (r *Reader) entries() (map[digest.Digest]entry, error) {
	list, err := os.ReadDir(r.path("image/overlay2/layerdb/sha256"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, denied(err)
	}
	all := make(map[digest.Digest]entry, len(list))
	for _, f := range list {
		chain := digest.NewDigestFromEncoded(digest.SHA256, f.Name())
		if chain.Validate() == nil && f.IsDir() {
			if all[chain], err = r.readEntry(chain); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}
