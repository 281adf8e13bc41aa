//go:build e2e

package inflate

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPrograms decodes what other programs write, Debian's gzip, pigz, zopfli,
// libdeflate-tools, isal and 7zip, at all of their levels.
func TestPrograms(t *testing.T) {
	plain := mixed(400_000)
	file := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(file, plain, 0o600); err != nil {
		t.Fatal(err)
	}
	commands := []string{
		"zopfli --i1 -c " + file,
		"pigz -11 -I 1 -c " + file,
		"pigz -H -c " + file, "pigz -U -c " + file, "pigz -0 -c " + file,
		"pigz -C comment -c " + file, "pigz -n -c " + file, "pigz -Y -c " + file,
	}
	for level := 1; level <= 9; level++ {
		commands = append(commands,
			fmt.Sprintf("gzip -%d -c %s", level, file),
			fmt.Sprintf("pigz -%d -c %s", level, file),
			fmt.Sprintf("pigz -i -b 128 -%d -c %s", level, file),
			fmt.Sprintf("7zz a -tgzip -mx=%d -si -so .", level),
		)
	}
	for level := 1; level <= 12; level++ {
		commands = append(commands, fmt.Sprintf("libdeflate-gzip -%d -c %s", level, file))
	}
	for level := range 4 {
		commands = append(commands, fmt.Sprintf("igzip -%d -c %s", level, file))
	}
	for _, c := range commands {
		name, _, _ := strings.Cut(c, " /")
		t.Run(name, func(t *testing.T) {
			args := strings.Fields(c)
			cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
			var out, errs bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(plain), &out, &errs
			if err := cmd.Run(); err != nil {
				t.Fatalf("%s: %v\n%s", c, err, errs.String())
			}
			expectPlain(t, out.Bytes(), plain)
		})
	}
}
