package copying

import (
	"bytes"
	"io"
	"testing"
)

// pieces counts the reads. It has a WriteTo that must not be used.
type pieces struct {
	io.Reader
	largest int
}

func (p *pieces) Read(b []byte) (int, error) {
	p.largest = max(p.largest, len(b))
	return p.Reader.Read(b)
}

func (*pieces) WriteTo(io.Writer) (int64, error) { panic("WriteTo was called") }

func TestCopy(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	var to bytes.Buffer
	from := &pieces{Reader: bytes.NewReader(data)}
	n, err := Copy(&to, from)
	if err != nil || n != int64(len(data)) || !bytes.Equal(to.Bytes(), data) {
		t.Errorf("%d of %d bytes, %v", n, len(data), err)
	}
	if from.largest != piece {
		t.Errorf("pieces of %d bytes", from.largest)
	}
}
