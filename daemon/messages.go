package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// message is one message of a load's stream. An error comes in two forms; old
// Engines use one of them alone.
type message struct {
	Stream   string `json:"stream"`
	Status   string `json:"status"`
	ID       string `json:"id"`
	Progress struct {
		Current int64 `json:"current"`
		Total   int64 `json:"total"`
	} `json:"progressDetail"`
	Error       string `json:"error"`
	ErrorDetail struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
}

// engineError is an error in the Engine's own words.
type engineError string

func (e engineError) Error() string { return string(e) }

// failures are the beginnings of lines that report a failure, although the Engine sends
// them as it sends progress. With containerd's store, an Engine reports so that it did not
// unpack an image of the archive (since moby's pull request 48293), and goes on with the
// next one. Earlier Engines end the load with an error, and those with a graph driver
// have no such line. Every other line is progress.
var failures = []string{"Error unpacking image "}

// failed returns the failure that a text reports, nil if it reports none.
func failed(text string) error {
	for line := range strings.Lines(text) {
		for _, f := range failures {
			if strings.HasPrefix(line, f) {
				return engineError(strings.TrimSpace(line))
			}
		}
	}
	return nil
}

// readMessages reads the stream to its end, and tells the meter of it. It returns the
// first failure that a message reports. An error message is the last of its stream; a
// failure that is sent as text is not.
func readMessages(r io.Reader, m *meter) error {
	var failure error
	for dec := json.NewDecoder(r); ; {
		var msg message
		switch err := dec.Decode(&msg); {
		case failure == nil && errors.Is(err, io.EOF):
			return nil
		case failure != nil && err != nil:
			return failure
		case err != nil:
			return fmt.Errorf("read its messages: %w", err)
		}
		if err := msg.failure(); failure == nil {
			failure = err
		}
		if msg.Error != "" || msg.ErrorDetail.Message != "" {
			return failure
		}
		if msg.Status == "Loading layer" {
			m.unpacking(msg.ID, msg.Progress.Current, msg.Progress.Total)
		} else {
			m.heard()
		}
	}
}

// failure returns what the message reports as failed.
func (m *message) failure() error {
	switch {
	case m.ErrorDetail.Message != "":
		return engineError(m.ErrorDetail.Message)
	case m.Error != "":
		return engineError(m.Error)
	}
	if err := failed(m.Stream); err != nil {
		return err
	}
	return failed(m.Status)
}
