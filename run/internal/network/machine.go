package network

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
)

// machine is root's outside: bridges are in the machine's own network namespace, and
// nft leads published ports to containers. A proxy reserves each of them, so that
// nobody else can take the port, and serves the connections that nft cannot lead:
// those to [::1], say, or to the machine's other IPv6 addresses when the container
// has none.
type machine struct {
	mu      sync.Mutex
	proxies []*proxy
	ports   []Port
	to      target
}

// Namespace is the caller's own.
func (m *machine) Namespace() *os.File { return nil }

// HostGateway is the bridge's address, which is the machine's.
func (m *machine) HostGateway(gateway netip.Addr) netip.Addr { return gateway }

// Publish reserves the ports and adds them to the nft table.
func (m *machine) Publish(ctx context.Context, ports []Port, to target, _ func(netip.Addr) bool) (_ []Port, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.to = to
	defer func() {
		if err != nil {
			err = errors.Join(err, m.withdraw())
		}
	}()
	var chosen []Port
	for _, p := range ports {
		if p, err = m.reserve(ctx, p); err != nil {
			return nil, err
		}
		chosen = append(chosen, p)
	}
	if err := lead(chosen, to); err != nil {
		return nil, err
	}
	m.ports = chosen
	return chosen, nil
}

// reserve takes the host port of p. Those of sctp have been chosen, see reserveSCTP.
func (m *machine) reserve(ctx context.Context, p Port) (Port, error) {
	if p.Protocol == "sctp" {
		return p, nil
	}
	x, p, err := newProxy(ctx, p, m.to.address(p.HostIP), nil)
	if err == nil {
		m.proxies = append(m.proxies, x)
	}
	return p, err
}

// Withdraw takes back what was published.
func (m *machine) Withdraw() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.withdraw()
}

// Close takes back what was published.
func (m *machine) Close() error { return m.Withdraw() }

// withdraw ends what Publish began. The nft table goes first: a port that is free
// leads nowhere.
func (m *machine) withdraw() error {
	err := unlead(m.ports, m.to)
	for _, x := range m.proxies {
		err = errors.Join(err, x.Close())
	}
	m.proxies, m.ports = nil, nil
	return err
}

// lead has nft lead ports to a container.
func lead(ports []Port, to target) error {
	t, err := openTable(nil)
	if err != nil {
		return err
	}
	defer t.Close()
	return errors.Join(t.addPorts(ports, to), forgetFlows(ports, to))
}

// unlead ends that. It is no error when it has ended.
func unlead(ports []Port, to target) error {
	if len(ports) == 0 {
		return nil
	}
	t, err := openTable(nil)
	if err != nil {
		return err
	}
	defer t.Close()
	return errors.Join(t.removePorts(ports, to), forgetFlows(ports, to))
}
