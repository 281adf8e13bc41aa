package inflate

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkStages measures, on one core, what decoding ahead is made of. With
// -corpus it is done with the layers there that BenchmarkGzip has made.
func BenchmarkStages(b *testing.B) {
	layers := map[string][]byte{"mixed": gzipped(b, mixed(20<<20), 6)}
	if f := flag.Lookup("corpus"); f != nil && f.Value.String() != "" {
		files, err := filepath.Glob(filepath.Join(f.Value.String(), "*.gz"))
		if err != nil {
			b.Fatal(err)
		}
		for _, file := range files {
			if layers[filepath.Base(file)], err = os.ReadFile(file); err != nil {
				b.Fatal(err)
			}
		}
	}
	for name, in := range layers {
		b.Run(name, func(b *testing.B) { stages(b, in) })
	}
}

func stages(b *testing.B, in []byte) {
	s := usualSizes
	scratch := newScratch(s)
	table := new(resolver)
	table.know(make([]byte, windowSize))
	plain := make([]byte, s.head)

	var searched, heads, tails, pieces, free float64
	var serial, finding, decoding, resolving time.Duration
	var all int64
	for b.Loop() {
		begun := time.Now()
		all += serially(bytes.NewReader(in), Options{}).n
		serial += time.Since(begun)
		for at := s.piece; at+s.piece+s.overlap+inBeyond < len(in); at += s.piece {
			end := s.piece + s.overlap
			piece := bytes.Clone(in[at : at+end+inBeyond])
			clear(piece[end:])
			begun := time.Now()
			p, ok := scratch.finder.find(piece, end, 0, 8*s.piece, new(atomic.Bool))
			finding += time.Since(begun)
			if pieces++; !ok {
				continue
			}
			searched += float64(p.bit >> 3)
			spec := speculator{scratch: scratch, in: piece, own: s.piece, end: end, stop: new(atomic.Bool), res: result{startPoint: p, scratch: scratch}}
			begun = time.Now()
			spec.decode(int(p.bit))
			decoding += time.Since(begun)
			r := spec.take()
			heads += float64(len(r.head))
			tails += float64(len(r.tail))
			if len(r.tail) > 0 {
				free++
			}
			begun = time.Now()
			table.resolve(plain, r.head)
			resolving += time.Since(begun)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(all)/1e6/serial.Seconds(), "serial-MB/s")
	b.ReportMetric((heads+tails)/1e6/decoding.Seconds(), "ahead-MB/s")
	b.ReportMetric(searched/1e6/finding.Seconds(), "find-MB/s")
	b.ReportMetric(searched/1e3/pieces, "find-KB")
	b.ReportMetric(heads/1e6/resolving.Seconds(), "resolve-MB/s")
	b.ReportMetric(100*heads/(heads+tails), "markers-%")
	b.ReportMetric(100*free/pieces, "free-%")
}
