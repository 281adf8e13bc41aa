package cli

import (
	"io"

	"github.com/fastpull/fastpull/internal/text"
)

// printJSON prints v as JSON that is safe for a terminal.
func printJSON(w io.Writer, v any) error {
	data, err := text.JSON(v, "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}
