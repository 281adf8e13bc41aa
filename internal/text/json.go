package text

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode"
)

// JSON returns v as JSON that ends with a newline. Each level is indented by indent; with ""
// all is one line. Characters that a terminal could take for commands are escaped, also those
// above ASCII, which encoding/json leaves as they are.
func JSON(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, r := range b.String() {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) && r <= 0xffff {
			fmt.Fprintf(&out, `\u%04x`, r)
			continue
		}
		out.WriteRune(r)
	}
	return out.Bytes(), nil
}
