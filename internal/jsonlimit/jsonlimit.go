// Package jsonlimit decodes JSON documents that come from others: manifests, indexes,
// configs, the lists of an archive.
//
// A limit on the bytes of a document does not bound the memory for it: three bytes
// ("{},") become a descriptor of more than a hundred. So the values are counted before
// anything is decoded.
package jsonlimit

import (
	"encoding/json"
	"fmt"
)

// The most that a document may have. An index of ten thousand images has a third of
// it; a manifest has hundreds of values.
const (
	MaxObjects = 1 << 16
	MaxValues  = 1 << 18 // keys count as well
	MaxDepth   = 10_000  // as encoding/json, and so Docker, takes it
)

// Unmarshal does what [json.Unmarshal] does, for a document within the limits. The error
// says what is wrong with the document, which it calls "it".
func Unmarshal(data []byte, v any) error {
	if err := check(data); err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("it is not valid JSON: %w", err)
	}
	return nil
}

// check counts the values of a document. It ignores invalid JSON, since the decoder reads the
// whole document and reports it before it allocates anything.
func check(data []byte) error {
	objects, values, depth := 0, 0, 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case ',', ':':
			values++
		case '{':
			objects++
			depth++
		case '[':
			depth++
		case '}', ']':
			depth--
		}
		switch {
		case objects > MaxObjects:
			return fmt.Errorf("it has more than %d objects", MaxObjects)
		case values > MaxValues:
			return fmt.Errorf("it has more than %d values", MaxValues)
		case depth > MaxDepth:
			return fmt.Errorf("it is nested more than %d deep", MaxDepth)
		}
	}
	return nil
}
