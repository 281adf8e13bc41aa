package inflate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"
)

// memberOf is a member with this header behind its magic, of "plain".
func memberOf(head string) []byte {
	return wrapped(head, new(deflater).fixed(true).text("plain").end().out, []byte("plain"))
}

// wrapped makes a member of a DEFLATE stream of plain.
func wrapped(head string, stream, plain []byte) []byte {
	m := append([]byte("\x1f\x8b"+head), stream...)
	m = binary.LittleEndian.AppendUint32(m, crc32.ChecksumIEEE(plain))
	return binary.LittleEndian.AppendUint32(m, uint32(len(plain)))
}

// withSum adds the checksum of a header.
func withSum(head string) string {
	sum := crc32.ChecksumIEEE([]byte("\x1f\x8b" + head))
	return head + string([]byte{byte(sum), byte(sum >> 8)})
}

func TestMembers(t *testing.T) {
	plain := memberOf("\x08\x00tttt\x00\x03")
	changed := func(fromEnd int) string {
		m := bytes.Clone(plain)
		m[len(m)-fromEnd] ^= 1
		return string(m)
	}
	one := string(plain)
	name := strings.Repeat("n", 70_000)
	for _, c := range []struct {
		name, in string
		tail     Tail
		want     string
		err      error
	}{
		{name: "plain", in: one, want: "plain"},
		{name: "three", in: one + one + one, want: "plainplainplain"},
		{name: "extra", in: string(memberOf("\x08\x04tttt\x00\x03\x05\x00extra")), want: "plain"},
		{name: "extra, largest", in: string(memberOf("\x08\x04tttt\x00\x03\xff\xff" + name[:65535])), want: "plain"},
		{name: "extra, none", in: string(memberOf("\x08\x04tttt\x00\x03\x00\x00")), want: "plain"},
		{name: "name", in: string(memberOf("\x08\x08tttt\x00\x03name\x00")), want: "plain"},
		{name: "long name", in: string(memberOf("\x08\x08tttt\x00\x03" + name + "\x00")), want: "plain"},
		{name: "comment", in: string(memberOf("\x08\x10tttt\x00\x03comment\x00")), want: "plain"},
		{name: "text flag", in: string(memberOf("\x08\x01tttt\x00\x03")), want: "plain"},
		{name: "all", in: string(memberOf(withSum("\x08\x1ftttt\x00\x03\x02\x00exname\x00comment\x00"))), want: "plain"},
		{name: "header sum", in: string(memberOf(withSum("\x08\x02tttt\x00\x03"))), want: "plain"},
		{name: "wrong header sum", in: string(memberOf("\x08\x02tttt\x00\x03ss")), err: ErrChecksum},
		{name: "reserved flag", in: string(memberOf("\x08\x20tttt\x00\x03")), err: ErrCorrupt},
		{name: "other method", in: string(memberOf("\x07\x00tttt\x00\x03")), err: ErrCorrupt},
		{name: "other method, second", in: one + string(memberOf("\x07\x00tttt\x00\x03")), want: "plain", err: ErrCorrupt},
		{name: "no gzip", in: "plain", err: ErrCorrupt},
		{name: "no gzip, one byte right", in: "\x1fplain", err: ErrCorrupt},
		{name: "zeroes", in: "\x00\x00\x00\x00", err: ErrCorrupt},
		{name: "nothing", in: "", err: io.ErrUnexpectedEOF},
		{name: "wrong sum", in: changed(8), want: "plain", err: ErrChecksum},
		{name: "wrong size", in: changed(4), want: "plain", err: ErrChecksum},
		{name: "wrong size, highest byte", in: changed(1), want: "plain", err: ErrChecksum},
		{name: "wrong sum of the first", in: changed(5) + one, want: "plain", err: ErrChecksum},

		{name: "padding", in: one + "\x00", want: "plain"},
		{name: "much padding", in: one + strings.Repeat("\x00", 200_000), want: "plain"},
		{name: "padding, not wanted", in: one + "\x00\x00", tail: NoTail, want: "plain", err: ErrPadding},
		{name: "padding, ignored", in: one + "\x00\x00", tail: IgnoreTail, want: "plain"},
		{name: "junk", in: one + "junk", want: "plain", err: ErrJunk},
		{name: "one byte of junk", in: one + "j", want: "plain", err: ErrJunk},
		{name: "half a magic", in: one + "\x1f", want: "plain", err: ErrJunk},
		{name: "another magic", in: one + "\x1f\x9d12345", want: "plain", err: ErrJunk},
		{name: "junk, not wanted", in: one + "junk", tail: NoTail, want: "plain", err: ErrJunk},
		{name: "one byte of junk, not wanted", in: one + "j", tail: NoTail, want: "plain", err: ErrJunk},
		{name: "junk, ignored", in: one + "junk", tail: IgnoreTail, want: "plain"},
		{name: "half a magic, ignored", in: one + "\x1f", tail: IgnoreTail, want: "plain"},
		{name: "padding and junk", in: one + strings.Repeat("\x00", 70_000) + "j", want: "plain", err: ErrJunk},
		{name: "padding and a member", in: one + "\x00" + one, want: "plain", err: ErrJunk},
		{name: "half a header", in: one + one[:5], want: "plain", err: io.ErrUnexpectedEOF},
		{name: "half a header, junk ignored", in: one + one[:5], tail: IgnoreTail, want: "plain", err: io.ErrUnexpectedEOF},
		{name: "half a trailer", in: one[:len(one)-1], want: "plain", err: io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			z := NewReader(strings.NewReader(c.in), Options{Tail: c.tail})
			defer z.Close()
			got, err := io.ReadAll(z)
			if string(got) != c.want || !errors.Is(err, c.err) {
				t.Errorf("%q, %v; want %q, %v", got, err, c.want, c.err)
			}
			var e *Error
			if err != nil && (!errors.As(err, &e) || e.Offset < 0 || e.Offset > int64(len(c.in))) {
				t.Errorf("%#v, of %d bytes", err, len(c.in))
			}
			if p, again := z.Next(); len(p) > 0 || err != nil && again != err || err == nil && again != io.EOF {
				t.Errorf("then %q, %v", p, again)
			}
		})
	}
}

// TestOffsets has errors say where they are, far behind the first buffer.
func TestOffsets(t *testing.T) {
	first := gzipped(t, mixed(1<<20), 1)
	second := bytes.Clone(memberOf("\x08\x00tttt\x00\x03"))
	second[len(second)-5] ^= 1
	for _, c := range []struct {
		name string
		in   []byte
		want int
	}{
		{"checksum", second, len(second) - 4},
		{"junk", []byte("junk"), 0},
		{"junk behind zeroes", []byte("\x00\x00junk"), 2},
		{"method", []byte("\x1f\x8b\x07"), 3},
		{"truncated", second[:15], 15},
		{"block of type 3", []byte("\x1f\x8b\x08\x00tttt\x00\x03\x07123456"), 11},
	} {
		t.Run(c.name, func(t *testing.T) {
			z := NewReader(io.MultiReader(bytes.NewReader(first), bytes.NewReader(c.in)), Options{})
			defer z.Close()
			_, err := z.WriteTo(io.Discard)
			var e *Error
			if !errors.As(err, &e) || e.Offset != int64(len(first)+c.want) {
				t.Errorf("%v; want one at %d", err, len(first)+c.want)
			}
		})
	}
}
