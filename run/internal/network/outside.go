package network

import (
	"context"
	"net/netip"
	"os"
)

// outside is what surrounds containers' network namespaces: the namespace that holds
// the bridges, and the ports of the machine. There is one for root, the machine
// itself, and one for users.
type outside interface {
	// Namespace is where bridges are made, nil in the caller's own.
	Namespace() *os.File
	// Publish leads ports of the machine to a container, and returns them
	// with the host ports chosen. The error about a port that is taken wraps
	// ErrPortInUse; nothing is published then. near reports whether the container
	// does not reach an address by its gateway; it may be called at any time.
	Publish(ctx context.Context, ports []Port, to target, near func(netip.Addr) bool) ([]Port, error)
	// HostGateway is the machine's address for a container whose network has
	// that gateway.
	HostGateway(gateway netip.Addr) netip.Addr
	// Withdraw takes back all that was published.
	Withdraw() error
	// Close does the same and releases the namespace.
	Close() error
}

// target is where published ports lead. ID is the container's; an address that it
// does not have is the zero Addr.
type target struct {
	ID       string
	IP4, IP6 netip.Addr
}

// address is the container's address for connections to a listener on host: of the
// same family if there is one.
func (t target) address(host netip.Addr) netip.Addr {
	if host.Unmap().Is6() && t.IP6.IsValid() || !t.IP4.IsValid() {
		return t.IP6
	}
	return t.IP4
}

// openOutside returns the outside for r, to be closed by the caller.
func openOutside(r *Request) (outside, error) {
	if r.Rootless {
		return openRootless(r.RunDir)
	}
	return &machine{}, nil
}
