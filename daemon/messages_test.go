package daemon

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// loaded is a stream without a failure, of lines that Engines send.
const loaded = `{"status":"Loading layer","progressDetail":{"current":1,"total":2},"progress":"[>  ]","id":"1a2b3c4d5e6f"}
{"stream":"The image host:5000/img:tag already exists, renaming the old one with ID sha256:1 to empty string\n"}
{"stream":"Loaded image: host:5000/img:tag\n"}
{"stream":"Loaded image ID: sha256:1\n"}
{"stream":"a line of a later Engine: Error, failure, unpacking image\n"}
{"status":"something new","aux":{"error":1}}
`

// TestReadMessages: a load has failed if any message says so, wherever it stands, and in
// whichever form.
func TestReadMessages(t *testing.T) {
	const unpacking = `{"stream":"Error unpacking image host:5000/img:tag: apply layer error for \"x\": failed to extract layer sha256:1: no space left on device\n"}` + "\r\n"
	for _, tc := range []struct{ name, stream, say string }{
		{"nothing", "", ""},
		{"progress alone", loaded, ""},
		{"an error", loaded + `{"errorDetail":{"message":"no such file"},"error":"no such file"}`, "no such file"},
		{"an error of an old Engine", loaded + `{"error":"no such file"}`, "no such file"},
		{"an error of a new Engine", loaded + `{"errorDetail":{"code":1,"message":"no such file"}}`, "no such file"},
		{"an unpacked image is none", loaded + unpacking, "Error unpacking image host:5000/img:tag: apply layer error"},
		{"as the first", unpacking + loaded, "no space left"},
		{"after another line in one message", `{"stream":"Loaded image: a\nError unpacking image a: out of inodes\n"}`, "out of inodes"},
		{"as a status", `{"status":"Error unpacking image a: out of inodes"}` + loaded, "out of inodes"},
		{"the first of two", unpacking + `{"error":"context canceled"}`, "no space left"},
		{"before it breaks off", unpacking + `{"stream":"Loa`, "no space left"},
		{"broken off", loaded + `{"stream":"Loa`, "unexpected EOF"},
		{"not JSON", loaded + `<html>`, "invalid character"},
	} {
		err := readMessages(strings.NewReader(tc.stream), newMeter(Watch{}))
		if (err != nil) != (tc.say != "") || err != nil && !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.say)
		}
	}
}

// A failure that is sent as text is not the end: what follows is read, and may be long.
func TestReadMessagesToTheEnd(t *testing.T) {
	r := strings.NewReader(`{"stream":"Error unpacking image a: out of inodes\n"}` + strings.Repeat(loaded, 1000))
	if err := readMessages(r, newMeter(Watch{})); err == nil {
		t.Error("no error")
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes were not read", r.Len()+1)
	}
}
