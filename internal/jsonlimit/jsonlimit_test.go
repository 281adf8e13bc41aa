package jsonlimit

import (
	"encoding/json"
	"reflect"
	"runtime"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestUnmarshal(t *testing.T) {
	for name, tc := range map[string]struct{ doc, say string }{
		"a manifest":               {`{"layers":[{"size":1,"annotations":{"a":"{[{[,:"}}]}`, ""},
		"escapes":                  {`{"a":"\"{","b":"\\","c":"\\\"[[["}`, ""},
		"braces in strings":        {`["` + strings.Repeat("{", MaxObjects+1) + `"]`, ""},
		"the most objects":         {"[" + strings.Repeat("{},", MaxObjects-1) + "{}]", ""},
		"more objects":             {"[" + strings.Repeat("{},", MaxObjects) + "{}]", "65536 objects"},
		"the most values":          {"[" + strings.Repeat("1,", MaxValues) + "1]", ""},
		"more values":              {"[" + strings.Repeat("1,", MaxValues+1) + "1]", "262144 values"},
		"more keys":                {"{" + strings.Repeat(`"a":1,`, MaxValues/2+1) + `"a":1}`, "262144 values"},
		"the deepest":              {strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth), ""},
		"deeper":                   {strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1), "10000 deep"},
		"a string without an end":  {`{"a":"` + strings.Repeat("{", 100_000), "unexpected end"},
		"an escape without an end": {`"\`, "escape"},
		"nothing":                  {"", "unexpected end"},
	} {
		var got, want any
		err := Unmarshal([]byte(tc.doc), &got)
		if tc.say == "" {
			if werr := json.Unmarshal([]byte(tc.doc), &want); err != nil || werr != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %v, %v", name, err, werr)
			}
		} else if err == nil || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// However a document is made, what becomes of it has a limit.
func TestMemory(t *testing.T) {
	const size = 8 << 20
	fill := func(head, one, tail string) []byte {
		return []byte(head + strings.Repeat(one, (size-len(head)-len(tail))/len(one)) + tail)
	}
	half := func(head, one, tail string, n int) []byte { return []byte(head + strings.Repeat(one, n) + tail) }
	for name, doc := range map[string][]byte{
		"objects":                fill(`{"layers":[`, `{},`, `{}]}`),
		"objects that are taken": half(`{"layers":[`, `{},`, `{}]}`, MaxObjects-2),
		"texts":                  fill(`{"layers":[{"urls":[`, `"",`, `""]}]}`),
		"texts that are taken":   half(`{"layers":[{"urls":[`, `"",`, `""]}]}`, MaxValues-100),
		"keys":                   fill(`{"annotations":{`, `"":"",`, `"":""}}`),
		"arrays":                 fill(`{"layers":[{"urls":`, `[`, ``),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var m ocispec.Manifest
		err := Unmarshal(doc, &m)
		runtime.ReadMemStats(&after)
		if strings.Contains(name, "taken") != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 64<<20 {
			t.Errorf("%s: %d MiB", name, got>>20)
		}
	}
	// Keys that are all different, as a map has them.
	var b strings.Builder
	for i := range MaxValues/2 - 10 {
		b.WriteString(`"` + string(rune('a'+i%26)) + strings.Repeat("k", i/26%50) + string(rune(0x4e00+i/1300)) + `":"",`)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var m ocispec.Manifest
	err := Unmarshal([]byte(`{"annotations":{`+b.String()+`"a":""}}`), &m)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; err != nil || got > 64<<20 {
		t.Errorf("different keys: %d MiB, %v", got>>20, err)
	}
}
