package network

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// names knows the containers that one container shares networks with. It may be used
// concurrently.
type names struct {
	dir runDir
	// own returns the container's lease.
	own func() *lease

	mu sync.Mutex
	// leases are those of the directory as it was at changed.
	leases  []*lease
	changed time.Time
}

// settled is how old a directory's time of change must be to be trusted: the clock
// that it is taken from moves in steps of up to 10 ms.
const settled = 50 * time.Millisecond

// all returns the leases of all containers.
func (n *names) all() []*lease {
	n.mu.Lock()
	defer n.mu.Unlock()
	st, err := os.Stat(n.dir.leases())
	if err != nil {
		return nil
	}
	if !st.ModTime().Equal(n.changed) || time.Since(n.changed) < settled {
		if leases, err := n.dir.list(); err == nil {
			n.leases, n.changed = leases, st.ModTime()
		}
	}
	return n.leases
}

// each calls f with every place of a living container on a network of ours that has
// names, until f returns false.
func (n *names) each(f func(l *lease, p *place) bool) {
	ours := map[string]bool{}
	for _, p := range n.own().Places {
		ours[p.Network.ID] = !p.Network.NoDNS
	}
	for _, l := range n.all() {
		for i := range l.Places {
			if ours[l.Places[i].Network.ID] && !f(l, &l.Places[i]) {
				return
			}
		}
	}
}

// lookup returns the addresses of the containers called name, in lower case and
// without a last dot, and whether there are any.
func (n *names) lookup(name string) (addresses []netip.Addr, known bool) {
	n.each(func(l *lease, p *place) bool {
		if l.called(name, p) && n.dir.alive(l.ID) {
			known = true
			for _, a := range []netip.Addr{p.IP, p.IP6} {
				if a.IsValid() {
					addresses = append(addresses, a)
				}
			}
		}
		return true
	})
	return addresses, known
}

// called reports whether the container has that name on a network: its own, the
// beginning of its id, its host name or an alias, each with or without the network's
// name behind it.
func (l *lease) called(name string, p *place) bool {
	name = strings.TrimSuffix(name, "."+strings.ToLower(p.Network.Name))
	if strings.EqualFold(name, l.Name) || strings.EqualFold(name, l.Hostname) || name == shortID(l.ID) {
		return true
	}
	for _, alias := range p.Aliases {
		if strings.EqualFold(name, alias) {
			return true
		}
	}
	return false
}

// shortID is what docker shows of an id.
func shortID(id string) string { return id[:min(12, len(id))] }

// reverse returns the full name of the container that has an address, "" if nobody
// has, and whether the address is of a network of ours.
func (n *names) reverse(a netip.Addr) (name string, ours bool) {
	for _, p := range n.own().Places {
		ours = ours || !p.Network.NoDNS && (p.Network.Subnet.Contains(a) || p.Network.Subnet6.Contains(a))
	}
	n.each(func(l *lease, p *place) bool {
		if p.IP == a || p.IP6 == a {
			name = l.Name + "." + p.Network.Name
		}
		return name == ""
	})
	return name, ours
}

// outward reports whether the container may ask name servers outside: one on
// internal networks only could send out anything in the guise of names.
func (n *names) outward() bool {
	for _, p := range n.own().Places {
		if !p.Network.Internal {
			return true
		}
	}
	return false
}
