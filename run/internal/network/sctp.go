package network

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// Where unused host ports of sctp are looked for: the kernel's own default for tcp.
const (
	firstFree = 32768
	lastFree  = 60999
)

// reserveSCTP chooses the host ports of sctp among ports, which others, the leases of
// living containers, do not have. Those of tcp and udp are reserved by listening;
// for sctp the kernel may lack what that needs, while its packets can be led all the
// same.
func reserveSCTP(ports []Port, others []*lease) ([]Port, error) {
	var used []Port
	for _, l := range others {
		used = append(used, l.Ports...)
	}
	chosen := slices.Clone(ports)
	for i := range chosen {
		p := &chosen[i]
		if p.Protocol != "sctp" {
			continue
		}
		if err := choosePort(p, used); err != nil {
			return nil, err
		}
		used = append(used, *p)
	}
	return chosen, nil
}

// choosePort chooses the host port of p.
func choosePort(p *Port, used []Port) error {
	wanted := *p
	first, count := int(p.HostPort), max(int(p.HostPortLast)-int(p.HostPort), 0)+1
	begin := 0
	if first == 0 {
		first, count = firstFree, lastFree-firstFree+1
		begin = rand.IntN(count)
	}
	p.HostPortLast = 0
	for i := range count {
		p.HostPort = uint16(first + (begin+i)%count)
		if !slices.ContainsFunc(used, p.meets) {
			return nil
		}
	}
	host := p.HostIP
	if !host.IsValid() {
		host = netip.IPv4Unspecified()
	}
	return fmt.Errorf("publish port %d/sctp: Bind for %s failed: %w", p.ContainerPort, netip.AddrPortFrom(host, wanted.HostPort), ErrPortInUse)
}

// meets reports whether p and o are, on some address, the same port of the host.
func (p *Port) meets(o Port) bool {
	if p.Protocol != o.Protocol || p.HostPort != o.HostPort {
		return false
	}
	a, b := p.HostIP.Unmap(), o.HostIP.Unmap()
	if !a.IsValid() || !b.IsValid() {
		return true
	}
	return a.Is4() == b.Is4() && (a == b || a.IsUnspecified() || b.IsUnspecified())
}

// reserve chooses the host ports of sctp and has the lease say so. The directory's
// lock is held. An ordinary user is told later that there is none.
func (s *Sandbox) reserve() error {
	if !publishesSCTP(s.request.Ports) || s.request.Rootless {
		return nil
	}
	others, err := s.dir.living(s.lease.ID)
	if err != nil {
		return err
	}
	ports, err := reserveSCTP(s.request.Ports, others)
	if err != nil {
		return err
	}
	s.request.Ports = ports
	l := *s.leased()
	l.Ports = slices.DeleteFunc(slices.Clone(ports), func(p Port) bool { return p.Protocol != "sctp" })
	return s.keep(&l)
}

// lockAndReserve takes the lock for reserve. Without networks there is nothing to do
// yet.
func (s *Sandbox) lockAndReserve() error {
	if s.out == nil {
		return nil
	}
	lock, err := s.dir.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	return s.reserve()
}

// publishesSCTP reports whether there is any such port.
func publishesSCTP(ports []Port) bool {
	return slices.ContainsFunc(ports, func(p Port) bool { return p.Protocol == "sctp" })
}
