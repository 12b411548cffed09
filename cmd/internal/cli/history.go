package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cooper/layers"
)

// newHistory makes the history command.
func newHistory(e *Env) *cobra.Command {
	var format string
	var noTrunc, quiet bool
	cmd := &cobra.Command{
		Use:                   "history [OPTIONS] IMAGE",
		Short:                 "Show the steps that an image was made by",
		Example:               "\n  @ app\n  @ --no-trunc --format '{{.CreatedBy}}' app",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := e.history(cmd.Context(), args[0], noTrunc)
			if err != nil {
				return err
			}
			if quiet {
				for _, row := range rows {
					fmt.Fprintln(e.Stdout, row["ID"])
				}
				return nil
			}
			return printRows(e.Stdout, format, []column{
				{"ID", "IMAGE"}, {"CreatedSince", "CREATED"}, {"CreatedBy", "CREATED BY"}, {"Size", "SIZE"}, {"Comment", "COMMENT"},
			}, rows)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&format, "format", "", "Print json, or a Go `TEMPLATE` for each step")
	fs.BoolVar(&noTrunc, "no-trunc", false, "Show whole IDs and commands")
	fs.BoolVarP(&quiet, "quiet", "q", false, "Show only IDs")
	e.commonFlags(cmd)
	return cmd
}

// history makes a row for each step of an image, the last step first.
func (e *Env) history(ctx context.Context, name string, noTrunc bool) ([]map[string]string, error) {
	store, err := e.Store(ctx)
	if err != nil {
		return nil, err
	}
	image, err := imageToShow(store, name)
	if errors.Is(err, layers.ErrNotFound) {
		return nil, fmt.Errorf("no such image: %s", name)
	}
	if err != nil {
		return nil, err
	}
	chain, err := store.Chain(image.Layer)
	if err != nil {
		return nil, err
	}
	return historyRows(image, chain, noTrunc, time.Now()), nil
}

// historyRows makes the rows of image, whose layers are chain, base first.
func historyRows(image layers.Image, chain []layers.Layer, noTrunc bool, now time.Time) []map[string]string {
	rows := []map[string]string{}
	for _, h := range image.Config.History {
		var size int64
		if !h.EmptyLayer && len(chain) > 0 {
			size, chain = chain[0].Size, chain[1:]
		}
		var created time.Time
		if h.Created != nil {
			created = *h.Created
		}
		by := strings.Join(strings.Fields(h.CreatedBy), " ")
		if short := []rune(by); !noTrunc && len(short) > 45 {
			by = string(short[:44]) + "…"
		}
		rows = append(rows, map[string]string{
			"ID": "<missing>", "CreatedSince": ago(now, created), "CreatedAt": created.Format(time.RFC3339),
			"CreatedBy": by, "Size": humanSize(size), "Comment": h.Comment,
		})
	}
	slices.Reverse(rows)
	if len(rows) > 0 {
		rows[0]["ID"] = shortID(image.ID)
		if noTrunc {
			rows[0]["ID"] = "sha256:" + image.ID
		}
	}
	return rows
}
