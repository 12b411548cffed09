package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cooper/run/internal/life"
	"cooper/run/internal/network"
)

// ownNetwork reports whether a container has a place on networks, not the host's
// network, somebody else's or none.
func ownNetwork(o *ContainerOptions) bool {
	_, joins := cutContainer(o.NetworkMode)
	return !joins && o.NetworkMode != "host" && o.NetworkMode != "none" && !strings.HasPrefix(o.NetworkMode, "ns:")
}

// networkNames are the networks that a container is to be on.
func networkNames(o *ContainerOptions) []string {
	if !ownNetwork(o) {
		if builtIn[o.NetworkMode] != "" {
			return []string{o.NetworkMode}
		}
		return nil
	}
	var names []string
	for _, a := range placesOf(o) {
		names = append(names, a.Network)
	}
	return names
}

// placesOf are the networks as they were asked for; if none was, that of NetworkMode.
func placesOf(o *ContainerOptions) []NetworkAttachment {
	if len(o.Networks) > 0 || o.Disconnected {
		return o.Networks
	}
	return []NetworkAttachment{{Network: cmp.Or(o.NetworkMode, network.DefaultName)}}
}

// attachments are the container's places on networks.
func (c *Container) attachments() ([]network.Attachment, error) {
	var all []network.Attachment
	for _, a := range placesOf(c.opts()) {
		attachment, err := c.cs.attachment(a)
		if err != nil {
			return nil, err
		}
		all = append(all, attachment)
	}
	return all, nil
}

// attachment is a as the monitor needs it.
func (cs *Containers) attachment(a NetworkAttachment) (network.Attachment, error) {
	n, err := cs.Network(a.Network)
	if err != nil {
		return network.Attachment{}, err
	}
	if n.Driver != "bridge" {
		return network.Attachment{}, fmt.Errorf("network %s is not for containers that have a network of their own", n.Name)
	}
	attachment := network.Attachment{Network: n, Aliases: a.Aliases, IP: a.IP, IP6: a.IP6, MAC: a.MAC}
	return attachment, attachment.Check()
}

// ConnectNetwork puts the container on one more network, at once if it runs.
func (c *Container) ConnectNetwork(ctx context.Context, a NetworkAttachment) error {
	err := c.Edit(func(o *ContainerOptions) error {
		if !ownNetwork(o) {
			return fmt.Errorf("it has no network of its own: it was made with --network %s", o.NetworkMode)
		}
		attachment, err := c.cs.attachment(a)
		if err != nil {
			return err
		}
		a.Network = attachment.Network.Name
		places := placesOf(o)
		if slices.ContainsFunc(places, func(p NetworkAttachment) bool { return p.Network == a.Network }) {
			return errors.New("it is on that network already")
		}
		if err := c.tell(ctx, life.KindConnect, attachment); err != nil && !errors.Is(err, ErrNotRunning) {
			return err
		}
		o.Networks, o.Disconnected = append(slices.Clone(places), a), false
		o.NetworkMode = o.Networks[0].Network
		c.cs.networkEvent("connect", &attachment.Network, c.id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("connect container %s to network %s: %w", c.opts().Name, a.Network, err)
	}
	return nil
}

// DisconnectNetwork takes the container off a network, at once if it runs.
func (c *Container) DisconnectNetwork(ctx context.Context, name string) error {
	err := c.Edit(func(o *ContainerOptions) error {
		n, err := c.cs.Network(name)
		if err != nil {
			return err
		}
		places := slices.Clone(placesOf(o))
		i := slices.IndexFunc(places, func(p NetworkAttachment) bool { return p.Network == n.Name })
		if i < 0 || !ownNetwork(o) {
			return errors.New("it is not on that network")
		}
		if err := c.tell(ctx, life.KindDisconnect, n.Name); err != nil && !errors.Is(err, ErrNotRunning) {
			return err
		}
		o.Networks = slices.Delete(places, i, i+1)
		if o.Disconnected = len(o.Networks) == 0; !o.Disconnected {
			o.NetworkMode = o.Networks[0].Network
		}
		c.cs.networkEvent("disconnect", &n, c.id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("disconnect container %s from network %s: %w", c.opts().Name, name, err)
	}
	return nil
}
