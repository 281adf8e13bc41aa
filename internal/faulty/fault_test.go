package faulty

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastpull/fastpull/internal/need"
)

// TestFaults looks at what a client gets of a blob, or of the range 100-199 of
// it, when something goes wrong.
func TestFaults(t *testing.T) {
	size := len(noise)
	part := func(first, last int) []byte { return noise[first : last+1] }
	for _, tc := range []struct {
		fault  Fault
		ranged bool
		status int    // 0: no answer
		body   []byte // nil: not looked at
		length int64  // that is announced, -1 for none
		label  string // Content-Range
		broken bool   // reading fails
	}{
		{fault: Reset(1000), status: 200, body: noise[:1000], length: int64(size), broken: true},
		{fault: Reset(0), status: 200, body: []byte{}, length: int64(size), broken: true},
		{fault: Abort(1000), status: 200, body: noise[:1000], length: int64(size), broken: true},
		{fault: Cut(1000), status: 200, body: noise[:1000], length: int64(size), broken: true},
		{fault: Short(1000), status: 200, body: noise[:1000], length: 1000},
		{fault: ShortUnmeasured(1000), status: 200, body: noise[:1000], length: -1},
		{fault: Short(1 << 20), status: 200, body: noise, length: int64(size)},
		{fault: Unranged(), ranged: true, status: 200, body: noise, length: int64(size)},
		{fault: Unranged(), status: 200, body: noise, length: int64(size)},
		{fault: WrongContentRange(LabelLate), ranged: true, status: 206, body: part(100, 199), length: 100, label: "bytes 101-199/200000"},
		{fault: WrongContentRange(LabelLong), ranged: true, status: 206, body: part(100, 199), length: 100, label: "bytes 100-200/200000"},
		{fault: WrongContentRange(LabelTotal), ranged: true, status: 206, body: part(100, 199), length: 100, label: "bytes 100-199/200001"},
		{fault: WrongContentRange(LabelWhole), ranged: true, status: 206, body: part(100, 199), length: 100, label: "bytes 0-199999/200000"},
		{fault: WrongContentRange(LabelNone), ranged: true, status: 206, body: part(100, 199), length: 100},
		{fault: ShiftedRange(-1), ranged: true, status: 206, body: part(99, 198), length: 100, label: "bytes 100-199/200000"},
		{fault: ShiftedRange(-101), ranged: true, status: 206, length: 100, label: "bytes 201-300/200000"}, // cannot be, and is not asked for
		{fault: LateRange(1), ranged: true, status: 206, body: part(101, 199), length: 99, label: "bytes 101-199/200000"},
		{fault: ShortRange(1), ranged: true, status: 206, body: part(100, 198), length: 99, label: "bytes 100-198/200000"},
		{fault: Status(416), ranged: true, status: 416, length: -1},
		{fault: Refuse(0), broken: true},
	} {
		t.Run(strings.ReplaceAll(tc.fault.String(), " ", "-"), func(t *testing.T) {
			eachProtocol(t, func(t *testing.T, o Options) {
				o.Script = Rules(Rule{On: Blob, Do: tc.fault})
				p := start(t, o)
				var header []string
				if tc.ranged {
					header = []string{"Range", "bytes=100-199"}
				}
				c := client(t, p)
				a := get(t, p, c, blobPath, header...)
				if (a.err != nil) != tc.broken {
					t.Errorf("reading: %v", a.err)
				}
				if !bytes.Equal(a.body, tc.body) && tc.body != nil {
					t.Errorf("%d bytes came, want %d, or others", len(a.body), len(tc.body))
				}
				if tc.status == 0 {
					return
				}
				if a.Response == nil {
					t.Fatal(a.err)
				}
				if a.StatusCode != tc.status || a.Header.Get("Content-Range") != tc.label {
					t.Errorf("%d, Content-Range %q", a.StatusCode, a.Header.Get("Content-Range"))
				}
				if tc.status < 300 && a.ContentLength != tc.length {
					t.Errorf("announced %d, want %d", a.ContentLength, tc.length)
				}
				if got := p.Sent(blobDigest); tc.body != nil && got != int64(len(a.body)) {
					t.Errorf("counted %d bytes, %d came", got, len(a.body))
				}
				// The next one is well.
				if a := get(t, p, c, blobPath); a.err != nil || !bytes.Equal(a.body, noise) {
					t.Errorf("once more: %v", a.err)
				}
			})
		})
	}
}

func TestFlip(t *testing.T) {
	p := start(t, Options{Script: Rules(Rule{Times: Always, Do: Flip(150_000)})})
	a := get(t, p, client(t, p), blobPath)
	var wrong []int
	for i := range a.body {
		if a.body[i] != noise[i] {
			wrong = append(wrong, i)
		}
	}
	if len(a.body) != len(noise) || len(wrong) != 1 || wrong[0] != 150_000 {
		t.Errorf("%d bytes, wrong at %v", len(a.body), wrong)
	}
}

// TestRST tells a reset from an end.
func TestRST(t *testing.T) {
	for _, fault := range []Fault{Reset(1000), Abort(1000)} {
		p := start(t, Options{Script: Rules(Rule{Do: fault})})
		a := get(t, p, client(t, p), blobPath)
		if got, want := errors.Is(a.err, syscall.ECONNRESET), strings.HasPrefix(fault.String(), "reset"); got != want {
			t.Errorf("%v: %v", fault, a.err)
		}
	}
}

func TestStatus(t *testing.T) {
	p := start(t, Options{Script: Rules(Rule{Do: Status(429, "Retry-After", "7")})})
	a := get(t, p, client(t, p), blobPath)
	if a.StatusCode != 429 || a.Header.Get("Retry-After") != "7" || !strings.Contains(string(a.body), `"errors"`) {
		t.Errorf("%d %v %s", a.StatusCode, a.Header, a.body)
	}
}

// TestSlow is about the faults that a client has to end.
func TestSlow(t *testing.T) {
	need.Time(t, "each fault waits for its stall")
	const patience = 700 * time.Millisecond
	for _, tc := range []struct {
		fault     Fault
		answers   bool
		min, most int64
	}{
		{Stall(5000), true, 5000, 5000},
		{Trickle(5000, 1000), true, 5100, 5900}, // 100 bytes ten times a second
		{Silence(), false, 0, 0},
		{Endless(), true, int64(len(noise)) + 1000, 1 << 40},
	} {
		t.Run(strings.ReplaceAll(tc.fault.String(), " ", "-"), func(t *testing.T) {
			eachProtocol(t, func(t *testing.T, o Options) {
				o.Script = Rules(Rule{Do: tc.fault})
				p := start(t, o)
				c := client(t, p)
				c.Timeout = patience
				resp, err := c.Get(p.URL() + blobPath)
				if (err == nil) != tc.answers {
					t.Fatalf("answer: %v", err)
				}
				if err != nil {
					return
				}
				defer resp.Body.Close()
				n, err := io.Copy(io.Discard, resp.Body)
				if err == nil || n < tc.min || n > tc.most {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
		})
	}
}

func TestRules(t *testing.T) {
	a, b := Status(501), Status(502)
	for _, tc := range []struct {
		name  string
		rules []Rule
		want  string // what is done to five requests, of which the odd ones are ranged
	}{
		{"none", nil, "-----"},
		{"first", []Rule{{On: Blob, Do: a}}, "a----"},
		{"third", []Rule{{On: Blob, Nth: 3, Do: a}}, "--a--"},
		{"two of them", []Rule{{On: Blob, Nth: 2, Times: 2, Do: a}}, "-aa--"},
		{"always", []Rule{{On: Blob, Nth: 2, Times: Always, Do: a}}, "-aaaa"},
		{"another kind", []Rule{{On: Ping, Times: Always, Do: a}}, "-----"},
		{"any kind", []Rule{{Do: a}}, "a----"},
		{"path", []Rule{{Path: "/app/", Do: a}}, "a----"},
		{"another path", []Rule{{Path: "/web/", Do: a}}, "-----"},
		{"ranged", []Rule{{Which: Ranged, Times: Always, Do: a}}, "-a-a-"},
		{"whole", []Rule{{Which: Whole, Nth: 2, Do: a}}, "--a--"},
		{"in a row", []Rule{{Do: a}, {Nth: 2, Do: b}}, "ab---"},
		{"the first of two", []Rule{{Do: a}, {Times: 2, Do: b}}, "ab---"},
	} {
		script := Rules(tc.rules...)
		var got strings.Builder
		for i := range 5 {
			mark := map[string]string{"": "-", a.name: "a", b.name: "b"}
			got.WriteString(mark[script(Request{Kind: Blob, Path: blobPath, Ranged: i%2 == 1}).name])
		}
		if got.String() != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got.String(), tc.want)
		}
	}
}

func TestRandom(t *testing.T) {
	draw := func(seed uint64, slow bool) (all []string) {
		script := Random(seed, 0.5, 1000, slow)
		for range 1000 {
			if f := script(Request{}); f.name != "" {
				all = append(all, f.name)
			}
		}
		return all
	}
	one := draw(1, true)
	if len(one) < 400 || len(one) > 600 {
		t.Errorf("%d faults in 1000 requests, half of them are to be", len(one))
	}
	if strings.Join(one, ",") != strings.Join(draw(1, true), ",") {
		t.Error("the same seed gives other faults")
	}
	if strings.Join(one, ",") == strings.Join(draw(2, true), ",") {
		t.Error("another seed gives the same faults")
	}
	isSlow := func(name string) bool {
		return strings.HasPrefix(name, "stall") || strings.HasPrefix(name, "trickle") || name == "no answer"
	}
	for _, slow := range []bool{true, false} {
		n := 0
		for _, name := range draw(3, slow) {
			if isSlow(name) {
				n++
			}
		}
		if (n > 0) != slow {
			t.Errorf("%d slow faults, asked for: %v", n, slow)
		}
	}
}
