package serve

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
)

// span is a part of a blob.
type span struct{ off, n int64 }

// contentRange returns the value of Content-Range for a part of a blob of size bytes.
func (s span) contentRange(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.off, s.off+s.n-1, size)
}

// requested returns which part of a blob of size bytes a request asks for, and the status of the
// answer: 200 for the whole blob, 206, or 416.
//
// A request for several ranges gets the whole blob, as does any Range header that is not
// understood. A server may ignore the header, so a client has to expect a 200 (RFC 9110, 14.2).
// It would also be allowed to send the first range alone. But some clients join parts without a
// look at Content-Range. containerd, docker, skopeo, crane and fastpull never ask for several
// ranges.
func requested(q *http.Request, etag string, size int64) (span, int) {
	whole := span{0, size}
	header := q.Header.Values("Range")
	if q.Method != http.MethodGet || len(header) != 1 {
		return whole, http.StatusOK
	}
	// Nothing here has a date. The comparison is the strong one (RFC 9110, 13.1.5).
	if only := q.Header.Get("If-Range"); only != "" && only != etag {
		return whole, http.StatusOK
	}
	unit, set, _ := strings.Cut(header[0], "=")
	if !strings.EqualFold(unit, "bytes") {
		return whole, http.StatusOK
	}
	r, ok := single(set)
	switch {
	case !ok:
		return whole, http.StatusOK
	case r.suffix && r.last > 0 && size == 0: // satisfied by nothing, which has no Content-Range
		return whole, http.StatusOK
	case r.suffix && r.last == 0, !r.suffix && r.first >= size:
		return span{}, http.StatusRequestedRangeNotSatisfiable
	case r.suffix:
		n := min(r.last, size)
		return span{size - n, n}, http.StatusPartialContent
	}
	return span{r.first, min(r.last, size-1) - r.first + 1}, http.StatusPartialContent
}

// byteRange is a range as it is asked for: from first to last, or the last bytes.
type byteRange struct {
	first, last int64
	suffix      bool
}

// single returns the range of a set (RFC 9110, 14.1.2). ok is false if the set does not have
// exactly one valid range. A list may have empty elements (5.6.1.2).
func single(set string) (r byteRange, ok bool) {
	spec := ""
	for one := range strings.SplitSeq(set, ",") {
		one = strings.Trim(one, " \t")
		if one != "" && spec != "" {
			return r, false
		}
		spec += one
	}
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return r, false
	}
	r.suffix, r.last = first == "", math.MaxInt64
	if !r.suffix {
		if r.first, ok = number(first); !ok {
			return r, false
		}
	}
	if last != "" || r.suffix {
		if r.last, ok = number(last); !ok {
			return r, false
		}
	}
	return r, r.first <= r.last
}

// number returns the value of digits. What is more than any blob has is the most that an
// int64 takes.
func number(digits string) (int64, bool) {
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	return n, true
}

// precondition returns the status of the answer to a request that is answered without
// the blob, because of what the client has of it (RFC 9110, 13.2.2), and 0 otherwise.
func precondition(q *http.Request, etag string) int {
	if list := q.Header.Values("If-Match"); len(list) > 0 && !lists(list, etag, false) {
		return http.StatusPreconditionFailed
	}
	if list := q.Header.Values("If-None-Match"); len(list) > 0 && lists(list, etag, true) {
		return http.StatusNotModified
	}
	return 0
}

// lists reports whether a list of entity tags (RFC 9110, 8.8.3) has etag, or is "*". Weak tags
// match in the weak comparison only.
func lists(header []string, etag string, weak bool) bool {
	rest := strings.Join(header, ",")
	for {
		rest = strings.TrimLeft(rest, " \t,")
		if strings.HasPrefix(rest, "*") {
			return true
		}
		tag, isWeak := strings.CutPrefix(rest, "W/")
		if !strings.HasPrefix(tag, `"`) {
			return false
		}
		end := strings.IndexByte(tag[1:], '"')
		if end < 0 {
			return false
		}
		if tag[:end+2] == etag && (weak || !isWeak) {
			return true
		}
		rest = tag[end+2:]
	}
}
