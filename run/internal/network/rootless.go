package network

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"

	"cooper/run/internal/network/uplink"
)

// rootless is a user's outside: bridges are in the namespace of the user's network
// process, and proxies of this process lead published ports to containers.
type rootless struct {
	hold *uplink.Hold

	mu      sync.Mutex
	sockets *sockets
	proxies []*proxy
}

// openRootless joins the network process, which the command that started this
// process has started before.
func openRootless(runDir string) (*rootless, error) {
	hold, err := uplink.Join(runDir)
	if err != nil {
		return nil, err
	}
	hold.KeepAlive(runDir)
	return &rootless{hold: hold}, nil
}

// Namespace is the network process's.
func (o *rootless) Namespace() *os.File { return o.hold.Namespace }

// HostGateway is an address that the network process takes for the machine's: the
// gateway belongs to the bridge, which is not the machine's.
func (o *rootless) HostGateway(netip.Addr) netip.Addr { return uplink.Gateway }

// Publish listens on the ports.
func (o *rootless) Publish(ctx context.Context, ports []Port, to target, near func(netip.Addr) bool) (_ []Port, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer func() {
		if err != nil {
			err = errors.Join(err, o.withdraw())
		}
	}()
	if o.sockets == nil {
		if o.sockets, err = newSockets(o.hold.Namespace); err != nil {
			return nil, err
		}
		o.sockets.forClients(o.hold.Namespace, near)
	}
	var chosen []Port
	for _, p := range ports {
		x, p, err := newProxy(ctx, p, to.address(p.HostIP), o.sockets)
		if err != nil {
			return nil, err
		}
		o.proxies = append(o.proxies, x)
		chosen = append(chosen, p)
	}
	return chosen, nil
}

// Withdraw closes the ports and their connections.
func (o *rootless) Withdraw() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.withdraw()
}

func (o *rootless) withdraw() error {
	var errs []error
	for _, x := range o.proxies {
		errs = append(errs, x.Close())
	}
	o.proxies = nil
	errs = append(errs, o.sockets.Close())
	o.sockets = nil
	return errors.Join(errs...)
}

// Close closes the ports and leaves the network process, which ends some seconds
// after the last has left.
func (o *rootless) Close() error { return errors.Join(o.Withdraw(), o.hold.Close()) }

// forwardToUplink has packets of a bridge in the calling thread's namespace forwarded
// where no sysctl can be set, and reports whether it has: next to the network
// process's interface nothing else has to be set.
func forwardToUplink(bridge string) bool {
	if _, err := netlink.LinkByName(uplink.Interface); err != nil {
		return false
	}
	link, err := netlink.LinkByName(bridge)
	return err == nil && uplink.Forward(link.Attrs().Index) == nil
}
