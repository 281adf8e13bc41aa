package overlay

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/fastpull/fastpull/unpack"
)

// Tar makes the very tar of a layer again, from its files and what tar-split
// kept of the rest. Content that has changed since is an error. The caller must
// close it.
func (r *Reader) Tar(l Layer) (io.ReadCloser, error) {
	return openTar(r.path("image/overlay2/layerdb", l.ChainID.Algorithm().String(), l.ChainID.Encoded(), "tar-split.json.gz"), r.diffDir(l))
}

// openTar puts a tar together from a tar-split file and the directory of the
// layer's files.
func openTar(split, dir string) (io.ReadCloser, error) {
	f, err := os.Open(split)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", split, err), f.Close())
	}
	files, err := unpack.OpenFiles(dir)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	pr, pw := io.Pipe()
	t := &tarReader{PipeReader: pr, ended: make(chan struct{})}
	go func() {
		defer close(t.ended)
		err := asm.WriteOutputTarStream(files, storage.NewJSONUnpacker(z), pw)
		files.Close()
		f.Close()
		pw.CloseWithError(err)
	}()
	return t, nil
}

// tarReader is a tar that is being put together.
type tarReader struct {
	*io.PipeReader
	ended chan struct{}
}

// Close ends the work and waits for that.
func (t *tarReader) Close() error {
	err := t.PipeReader.Close()
	<-t.ended
	return err
}
