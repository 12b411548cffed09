package network

import (
	"context"
	"net/netip"
	"os"
)

// outside is what surrounds containers' network namespaces: the namespace that holds
// the bridges, and the ports of the machine. There is one for root and one for users.
type outside interface {
	// Namespace is where bridges are made, nil in the caller's own.
	Namespace() *os.File
	// Publish leads a port of the machine to the container's address, and
	// returns p with the host port chosen. It may be called several times;
	// the error about a port that is taken wraps ErrPortInUse.
	Publish(ctx context.Context, p Port, to netip.Addr) (Port, error)
	// HostGateway is the machine's address for the container on a network,
	// whose gateway is given.
	HostGateway(gateway netip.Addr) netip.Addr
	// Close takes back all that was published.
	Close() error
}
