package daemon

import (
	"context"
	"strings"

	"github.com/moby/moby/client"
)

// Container is a container that runs.
type Container struct{ ID, Name string }

// Running returns the containers that run.
func (e *Engine) Running(ctx context.Context) ([]Container, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got, err := e.cli.ContainerList(ctx, client.ContainerListOptions{})
	if err != nil {
		return nil, e.explain(err, "list the containers that run")
	}
	list := make([]Container, len(got.Items))
	for i, c := range got.Items {
		list[i] = Container{ID: c.ID, Name: c.ID}
		if len(c.Names) > 0 {
			list[i].Name = strings.TrimPrefix(c.Names[0], "/")
		}
	}
	return list, nil
}
