package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/moby/moby/client"
)

// Imported describes the image that [Engine.Import] makes.
type Imported struct {
	Name         string // its only name, "host/img:tag"
	Comment      string
	Label, Value string // its only label; neither may contain a quotation mark
}

// Import gives the Engine the lowest layer of images, a plain tar, and makes an image of that
// layer alone. The Engine unpacks the layer while it arrives, and the size may be unknown:
// for [Engine.Load] the Engine writes the archive to its disk first. The Engine chooses the
// ID of the image. The layer has the same chainID as in every other image.
//
// The Engine takes the layer when tar ends. Another error of tar than io.EOF makes the Engine
// forget the layer. Everything else is as for [Engine.Load], and the Engine says nothing until
// it has the layer. Import needs an Engine with a graph driver.
func (e *Engine) Import(ctx context.Context, tar io.Reader, img Imported, w Watch) error {
	return e.give(ctx, tar, w, func(ctx context.Context, body io.ReadCloser) (io.ReadCloser, error) {
		answer, err := e.cli.ImageImport(ctx, client.ImageImportSource{Source: body, SourceName: "-"}, img.Name, client.ImageImportOptions{
			Message: img.Comment,
			Changes: []string{fmt.Sprintf(`LABEL "%s"="%s"`, img.Label, img.Value)},
		})
		if answered(err) {
			return nil, engineError(err.Error())
		}
		return answer, err
	})
}

// answered reports whether an error is the Engine's answer to a request, or that of a proxy before
// it. As long as nothing was said in the answer, a failure is reported by the status.
func answered(err error) bool {
	var transport *url.Error
	return err != nil && !errors.As(err, &transport) && !client.IsErrConnectionFailed(err) && !brokenOff(err) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}
