package faulty

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
)

// span is a range of bytes, from first to last, both included. In a request
// with an open end last is -1, as is an unknown size.
type span struct{ first, last, size int64 }

var (
	rangePattern        = regexp.MustCompile(`^bytes=(\d+)-(\d*)$`)
	contentRangePattern = regexp.MustCompile(`^bytes (\d+)-(\d+)/(\d+)$`)
)

// parseRange reads a Range of one part.
func parseRange(value string) (span, bool) {
	m := rangePattern.FindStringSubmatch(value)
	if m == nil {
		return span{}, false
	}
	s := span{first: number(m[1]), last: -1, size: -1}
	if m[2] != "" {
		s.last = number(m[2])
	}
	return s, true
}

func parseContentRange(value string) (span, bool) {
	m := contentRangePattern.FindStringSubmatch(value)
	if m == nil {
		return span{}, false
	}
	return span{number(m[1]), number(m[2]), number(m[3])}, true
}

func number(digits string) int64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 1 << 60 // more than any blob has
	}
	return n
}

// header is the Range that asks for s.
func (s span) header() string {
	if s.last < 0 {
		return fmt.Sprintf("bytes=%d-", s.first)
	}
	return fmt.Sprintf("bytes=%d-%d", s.first, s.last)
}

func (s span) String() string { return fmt.Sprintf("bytes %d-%d/%d", s.first, s.last, s.size) }

// Unranged answers a request for a range with 200 and the whole blob.
func Unranged() Fault {
	return Fault{name: "200 for a range", ask: func(s *span) bool {
		*s = span{-1, -1, -1}
		return true
	}}
}

// Label is a way to get a Content-Range wrong.
type Label func(first, last, size int64) string

// Labels for [WrongContentRange].
var (
	LabelLate  Label = func(first, last, size int64) string { return span{first + 1, last, size}.String() }
	LabelLong  Label = func(first, last, size int64) string { return span{first, last + 1, size}.String() }
	LabelTotal Label = func(first, last, size int64) string { return span{first, last, size + 1}.String() }
	LabelWhole Label = func(_, _, size int64) string { return span{0, size - 1, size}.String() }
	LabelNone  Label = func(_, _, _ int64) string { return "" }
)

// WrongContentRange sends the right bytes of a range and says that they are
// others.
func WrongContentRange(label Label) Fault {
	return Fault{name: "wrong Content-Range", head: func(_ *exchange, resp *http.Response) {
		got, ok := parseContentRange(resp.Header.Get("Content-Range"))
		if !ok {
			return
		}
		resp.Header.Del("Content-Range")
		if text := label(got.first, got.last, got.size); text != "" {
			resp.Header.Set("Content-Range", text)
		}
	}}
}

// ShiftedRange sends the bytes of a range that begins by bytes later, or, with
// a negative number, earlier, and says that they are those asked for.
func ShiftedRange(by int64) Fault {
	f := moved(fmt.Sprintf("range shifted by %d", by), by, by)
	f.head = func(_ *exchange, resp *http.Response) {
		if got, ok := parseContentRange(resp.Header.Get("Content-Range")); ok {
			resp.Header.Set("Content-Range", span{got.first - by, got.last - by, got.size}.String())
		}
	}
	return f
}

// LateRange leaves out the first bytes of a range, and says so.
func LateRange(by int64) Fault { return moved(fmt.Sprintf("range %d late", by), by, 0) }

// ShortRange leaves out the last bytes of a range, and says so.
func ShortRange(by int64) Fault { return moved(fmt.Sprintf("range %d short", by), 0, -by) }

// moved asks the registry for another range. One that would be empty or begin
// before the blob is left as it is.
func moved(name string, first, last int64) Fault {
	return Fault{name: name, ask: func(s *span) bool {
		to := span{s.first + first, s.last, s.size}
		if s.last >= 0 {
			to.last += last
		}
		if to.first < 0 || to.last >= 0 && to.last < to.first {
			return false
		}
		*s = to
		return true
	}}
}
