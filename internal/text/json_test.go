package text

import "testing"

func TestJSON(t *testing.T) {
	for indent, want := range map[string]string{
		"":   `{"a":1,"k":"\u001b\u009b\u202e\u007f → ü\n"}` + "\n",
		"  ": "{\n  \"a\": 1,\n  \"k\": \"\\u001b\\u009b\\u202e\\u007f → ü\\n\"\n}\n",
	} {
		got, err := JSON(map[string]any{"k": "\x1b\u009b\u202e\u007f → ü\n", "a": 1}, indent)
		if err != nil || string(got) != want {
			t.Errorf("indent %q: %q, %v, want %q", indent, got, err, want)
		}
	}
	if _, err := JSON(func() {}, ""); err == nil {
		t.Error("a function has no JSON")
	}
}
