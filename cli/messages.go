package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/progress"
)

// message is a line on standard error that is not one of package progress, as
// --progress=json has it.
type message struct {
	Type  string  `json:"type"` // error, interrupted, note or debug
	Text  string  `json:"text"`
	Hint  string  `json:"hint,omitempty"`
	Code  int     `json:"code,omitempty"`  // the exit code of this error by itself
	Kept  int64   `json:"kept,omitempty"`  // bytes that the next run need not fetch
	Stays string  `json:"stays,omitempty"` // a file that the next run continues
	After float64 `json:"after,omitempty"` // seconds since the start
}

// sayAs writes a message in words or as a JSON object, in one Write.
func sayAs(w io.Writer, asJSON bool, m message) {
	if asJSON {
		// Encoding this type cannot fail, and standard error is the last place to report to.
		line, _ := json.Marshal(m)
		_, _ = w.Write(append(line, '\n'))
		return
	}
	prefix := "fastpull: "
	switch m.Type {
	case "debug":
		prefix = fmt.Sprintf("debug: %7.3f ", m.After)
	case "error":
		prefix = progress.Bad(w, "fastpull:") + " "
	}
	words := prefix + text.Printable(m.Text) + "\n"
	if m.Hint != "" {
		words += "hint: " + text.Printable(m.Hint) + "\n"
	}
	_, _ = io.WriteString(w, words)
}

// noteLines writes each line as a note in JSON.
type noteLines struct{ w io.Writer }

func (n noteLines) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if line = strings.TrimSpace(line); line != "" {
			sayAs(n.w, true, message{Type: "note", Text: line})
		}
	}
	return len(p), nil
}

// asksForJSON reports whether the arguments have --progress=json. It is for errors, also
// those in other flags.
func asksForJSON(args []string) bool {
	for i, a := range args {
		switch {
		case a == "--":
			return false
		case a == "--progress="+string(progress.JSON), a == "--progress" && i+1 < len(args) && args[i+1] == string(progress.JSON):
			return true
		}
	}
	return false
}

// printError prints errors that were joined one by one, each with its hint.
func printError(w io.Writer, asJSON bool, err error) {
	for _, err := range split(err) {
		sayAs(w, asJSON, message{Type: "error", Text: err.Error(), Hint: fault.Advice(err), Code: int(fault.KindOf(err))})
	}
}

// unfinished is the error of a run that has left something for the next one.
type unfinished struct {
	error
	kept  int64
	stays string
}

// Unwrap returns the error of the run.
func (u *unfinished) Unwrap() error { return u.error }

// words returns what the next run has of this one, "" for nothing.
func (u *unfinished) words() string {
	var parts []string
	if u.kept > 0 {
		parts = append(parts, progress.Bytes(u.kept)+" of layers are kept on disk")
	}
	if u.stays != "" {
		parts = append(parts, u.stays+" stays")
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, "; ") + "; the same command continues from there"
}
