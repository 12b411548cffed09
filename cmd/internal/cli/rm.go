package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"cooper/run"
)

// newRm makes the rm command.
func newRm(e *Env) *cobra.Command {
	var force, volumes bool
	var seconds int
	sel := selection{wanted: func(*run.State) bool { return true }}
	cmd := &cobra.Command{
		Use:                   "rm [OPTIONS] CONTAINER [CONTAINER...]",
		Short:                 "Remove containers",
		Long:                  "Remove containers, with what they wrote and their logs. Images and named volumes\nstay.",
		Example:               "\n  @ web\n  @ -f -v web db             Even if they run, and with their anonymous volumes",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			o := run.RemoveOptions{Force: force, Volumes: volumes}
			sel.ignore = sel.ignore || force
			grace := time.Duration(seconds) * time.Second
			err := e.eachRunning(cmd, args, sel, func(c *run.Container) error {
				if force && cmd.Flags().Changed("time") {
					if err := c.Stop(cmd.Context(), run.StopOptions{Grace: &grace}); err != nil {
						return err
					}
				}
				err := c.Remove(cmd.Context(), o)
				if sel.ignore {
					return ignoreGone(err)
				}
				return err
			})
			return errors.Join(err, e.sweepNetworks(cmd.Context()))
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&sel.all, "all", "a", false, "Remove all containers")
	fs.BoolVarP(&force, "force", "f", false, "Kill those that run; no error if there is none")
	fs.BoolVarP(&volumes, "volumes", "v", false, "Remove their anonymous volumes too")
	fs.BoolVarP(&sel.ignore, "ignore", "i", false, "No error if there is none")
	fs.IntVarP(&seconds, "time", "t", 0, "With -f: ask those that run to end, and kill them after `SECONDS`")
	sel.declare(fs, "")
	e.commonFlags(cmd)
	return cmd
}

// newRename makes the rename command.
func newRename(e *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "rename CONTAINER NAME",
		Short:                 "Give a container another name",
		Example:               "\n  @ web web-old",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			cs, err := e.containers(cmd.Context())
			if err != nil {
				return err
			}
			c, err := cs.Find(args[0])
			if err != nil {
				return err
			}
			return c.Rename(cmd.Context(), args[1])
		},
	}
	e.commonFlags(cmd)
	return cmd
}

// newPort makes the port command.
func newPort(e *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "port CONTAINER [PORT[/PROTOCOL]]",
		Short:                 "Show where a container's ports are on the host",
		Example:               "\n  @ web\n  @ web 80",
		DisableFlagsInUseLine: true,
		Args:                  rangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			cs, err := e.containers(cmd.Context())
			if err != nil {
				return err
			}
			c, err := cs.Find(args[0])
			if err != nil {
				return err
			}
			return e.printPorts(c, args[1:])
		},
	}
	e.commonFlags(cmd)
	return cmd
}

// printPorts prints the published ports of c, or only those of one port.
func (e *Env) printPorts(c *run.Container, only []string) error {
	st, err := c.State()
	if err != nil {
		return err
	}
	wanted := func(uint16, string) bool { return true }
	if len(only) > 0 {
		if wanted, err = parsePortRange(only[0]); err != nil {
			return fmt.Errorf("invalid port %q: %w", only[0], err)
		}
	}
	found := false
	for _, p := range publishedPorts(st) {
		if !wanted(p.ContainerPort, p.Protocol) {
			continue
		}
		found = true
		for _, ip := range hostIPs(p) {
			if len(only) == 0 {
				fmt.Fprintf(e.Stdout, "%d/%s -> ", p.ContainerPort, p.Protocol)
			}
			if _, err := fmt.Fprintln(e.Stdout, hostAddress(ip, p.HostPort)); err != nil {
				return err
			}
		}
	}
	if !found && len(only) > 0 {
		return fmt.Errorf("no public port %q published for container %s", only[0], c.Name())
	}
	return nil
}
