package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"cooper/layers"
	"cooper/run"
)

// removerName is the first argument of a command that a container's monitor starts
// when the container was to be removed in the end. It can be no image's name.
const removerName = "_remove"

// remover is the command that removes a container of this store; its monitor adds
// the id.
func (e *Env) remover(store *layers.Store) ([]string, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program, to remove the container in the end: %w", err)
	}
	args := []string{exe, removerName, "--root", store.Root(), "--runroot", store.RunRoot(), "--storage-driver", store.DriverName()}
	for _, o := range e.options.DriverOptions {
		args = append(args, "--storage-opt", o)
	}
	return args, nil
}

// newRemover makes the command that a monitor starts: nobody sees what it prints.
func newRemover(e *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:  removerName + " CONTAINER",
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cs, err := e.containers(cmd.Context())
			if err != nil {
				return err
			}
			c, err := cs.Find(args[0])
			if err != nil {
				return ignoreGone(err)
			}
			return ignoreGone(c.Remove(context.WithoutCancel(cmd.Context()), run.RemoveOptions{Volumes: true}))
		},
	}
	e.commonFlags(cmd)
	return cmd
}
