package fleet

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/pull"
	"github.com/fastpull/fastpull/registry"
)

// State describes the images of a list. Its methods are safe for concurrent use.
type State struct {
	version string

	mu      sync.Mutex
	running bool
	ready   bool
	whole   []registry.Reference // the list of the last run that brought all of it
	last    Line                 // of the last run that is over; zero before
	done    time.Time            // when the last run without a failure began
	runs    map[Result]int
	bytes   int64
	seconds float64
	pulled  int
	failed  int
}

// NewState returns the state before the first run. version is that of the program.
func NewState(version string) *State {
	return &State{version: version, runs: make(map[Result]int)}
}

// begin notes that a run of a list begins, or that the list could not be read.
func (s *State) begin(refs []registry.Reference, listed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = true
	s.ready = s.ready && listed && slices.Equal(refs, s.whole)
}

// end notes how a run ended. A run that fails takes nothing away: what an earlier run of the
// same list has brought is still taken to be there.
func (s *State) end(refs []registry.Reference, l Line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.last = false, l
	s.runs[l.Result]++
	s.bytes += l.BytesFetched
	s.seconds += l.Seconds
	for _, r := range l.Images {
		switch r.Status {
		case pull.Pulled:
			s.pulled++
		case pull.Failed:
			s.failed++
		}
	}
	if l.Result == Done {
		s.ready, s.whole, s.done = true, slices.Clone(refs), l.Started
	}
}

// Ready reports whether all images of the list are on the host. If not, why says in one line
// what is missing.
func (s *State) Ready() (ok bool, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ready:
		return true, text.Count(len(s.whole), "image")
	case s.running:
		return false, "images are being pulled"
	case s.last.Error != "":
		return false, text.Cut(s.last.Error, 500)
	}
	return false, "nothing was pulled yet"
}

// WriteMetrics writes the metrics in the text format of Prometheus.
func (s *State) WriteMetrics(w io.Writer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	put := func(name, kind, help string, values ...sample) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
		for _, v := range values {
			fmt.Fprintf(&b, "%s%s %s\n", name, v.labels, v.value)
		}
	}
	put("fastpull_build_info", "gauge", "The version of fastpull.", labelled("version", s.version, 1))
	put("fastpull_ready", "gauge", "1 if all images of the list are on the host.", number(oneIf(s.ready)))
	put("fastpull_image_present", "gauge", "1 if the last run found or brought the image, 0 if it failed.", s.images()...)
	put("fastpull_runs_total", "counter", "Runs by their result.",
		labelled("result", string(Done), s.runs[Done]), labelled("result", string(Failed), s.runs[Failed]),
		labelled("result", string(Interrupted), s.runs[Interrupted]))
	put("fastpull_images_pulled_total", "counter", "Images that were brought because they were not on the host.", number(s.pulled))
	put("fastpull_images_failed_total", "counter", "Images that failed, counted in each run.", number(s.failed))
	put("fastpull_fetched_bytes_total", "counter", "Bytes of blobs that came from registries.", number(s.bytes))
	put("fastpull_run_seconds_total", "counter", "Seconds that runs have taken.", number(s.seconds))
	if !s.last.Started.IsZero() {
		put("fastpull_last_run_timestamp_seconds", "gauge", "When the last run began.", number(seconds(s.last.Started)))
		put("fastpull_last_run_seconds", "gauge", "How long the last run took.", number(s.last.Seconds))
	}
	if !s.done.IsZero() {
		put("fastpull_last_done_timestamp_seconds", "gauge", "When the last run without a failure began.", number(seconds(s.done)))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// images returns a sample for each image of the last run.
func (s *State) images() (list []sample) {
	if s.last.Summary == nil {
		return nil
	}
	for _, r := range s.last.Images {
		list = append(list, labelled("reference", r.Reference, oneIf(r.Status != pull.Failed)))
	}
	return list
}

// sample is one value of a metric, with the labels that tell it from others.
type sample struct{ labels, value string }

func number[N int | int64 | float64](n N) sample { return sample{value: fmt.Sprint(n)} }

// labelValue escapes the value of a label.
var labelValue = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func labelled[N int | int64 | float64](name, value string, n N) sample {
	return sample{fmt.Sprintf(`{%s="%s"}`, name, labelValue.Replace(value)), fmt.Sprint(n)}
}

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// seconds returns a time as Prometheus has it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
