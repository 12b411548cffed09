package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"cooper/run"
)

func newNetworkConnect(e *Env) *cobra.Command {
	var aliases []string
	var ip, ip6, mac string
	cmd := &cobra.Command{
		Use:                   "connect [OPTIONS] NETWORK CONTAINER",
		Short:                 "Put a container on one more network",
		Long:                  "Put a container on one more network: at once if it runs, and whenever it is started.",
		Example:               "\n  @ --alias db backend postgres",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			a := run.NetworkAttachment{Network: args[0], Aliases: aliases}
			if ip != "" {
				if a.IP, err = parseIP(ip, false); err != nil {
					return fmt.Errorf("invalid --ip: %w", err)
				}
			}
			if ip6 != "" {
				if a.IP6, err = parseIP(ip6, true); err != nil {
					return fmt.Errorf("invalid --ip6: %w", err)
				}
			}
			if mac != "" {
				if a.MAC, err = parseMAC(mac); err != nil {
					return fmt.Errorf("invalid --mac-address: %w", err)
				}
			}
			c, err := e.findContainer(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			return c.ConnectNetwork(cmd.Context(), a)
		},
	}
	fs := cmd.Flags()
	fs.StringArrayVar(&aliases, "alias", nil, "Let others find it by `NAME` too (repeatable)")
	fs.StringVar(&ip, "ip", "", "Give it the `ADDRESS`")
	fs.StringVar(&ip6, "ip6", "", "Give it the IPv6 `ADDRESS`")
	fs.StringVar(&mac, "mac-address", "", "Give it the Ethernet `ADDRESS`")
	e.commonFlags(cmd)
	return cmd
}

func newNetworkDisconnect(e *Env) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:                   "disconnect [OPTIONS] NETWORK CONTAINER",
		Short:                 "Take a container off a network",
		Long:                  "Take a container off a network: at once if it runs, and for later.",
		DisableFlagsInUseLine: true,
		Args:                  exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.findContainer(cmd.Context(), args[1])
			if force && errors.Is(err, run.ErrNoContainer) {
				return nil
			}
			if err != nil {
				return err
			}
			return c.DisconnectNetwork(cmd.Context(), args[0])
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "No error if there is no such container")
	e.commonFlags(cmd)
	return cmd
}
