// Package network gives containers network namespaces of their own: bridges,
// published ports, and the names of other containers.
//
// Nothing runs for a network. What containers share, bridges and one nft table
// called cooper, is made by the first container that needs it and removed with the
// last one. What is in use is written down in a directory of lease files, one for
// each container, see lease.go; a container's monitor holds a lock on its lease, so
// that what a killed monitor leaves is known to be free.
//
// The same code serves root and users. Bridges are made in a network namespace that
// is the machine's own for root and, for a user, one that the user's network process
// holds; an outside is that namespace together with the way in which ports get from
// there to the machine.
package network

import (
	"errors"
	"net/netip"
	"os"
	"time"
)

// Network is a network that containers can be on, as network create makes it.
type Network struct {
	Name string
	// ID is 64 hexadecimal digits.
	ID string
	// Driver is "bridge".
	Driver string
	// Bridge is the interface's name on the host.
	Bridge  string
	Subnet  netip.Prefix
	Gateway netip.Addr
	// IPRange is where addresses are chosen from; the zero Prefix means all
	// of Subnet.
	IPRange netip.Prefix `json:",omitzero"`
	// Subnet6 and Gateway6 are set when IPv6 was asked for.
	Subnet6  netip.Prefix `json:",omitzero"`
	Gateway6 netip.Addr   `json:",omitzero"`
	// Internal networks have no way out.
	Internal bool
	// NoDNS leaves names to the host's name servers.
	NoDNS bool
	// MTU 0 means that of the host's default route.
	MTU     int `json:",omitzero"`
	Labels  map[string]string
	Options map[string]string
	Created time.Time
}

// Request asks for a container's network namespace.
type Request struct {
	// Namespace is used, and stays the caller's; nil makes one.
	Namespace *os.File `json:"-"`
	// ID, Name and Hostname are the container's.
	ID, Name, Hostname string
	// Attachments are the networks, the default route's first. None makes a
	// namespace with the loopback interface only.
	Attachments []Attachment
	Ports       []Port
	// DNS are name servers to ask instead of the host's, Search domains and
	// Options resolver options in place of the host's.
	DNS, Search, Options []string
	// RunDir is for files that need not outlive a boot. It must be the same
	// for all who share the bridges' network namespace.
	RunDir string
	// Rootless: this process is in a user's namespace and has no rights over
	// the host's network.
	Rootless bool
}

// Attachment is a container's place on a network.
type Attachment struct {
	Network Network
	Aliases []string
	// IP, IP6 and MAC are chosen when they are not given.
	IP, IP6 netip.Addr `json:",omitzero"`
	MAC     string
}

// Port publishes one port of a container on the host.
type Port struct {
	// HostIP is where the host listens; the zero Addr means everywhere.
	HostIP netip.Addr `json:",omitzero"`
	// HostPort 0 means any free one.
	HostPort uint16
	// HostPortLast, when it is not 0, makes HostPort the first of a range of
	// which any free one is taken.
	HostPortLast  uint16 `json:",omitzero"`
	ContainerPort uint16
	// Protocol is "tcp", "udp" or "sctp".
	Protocol string
}

// Status is a container's place on a network once it has one.
type Status struct {
	Interface string
	IP        netip.Prefix `json:",omitzero"`
	Gateway   netip.Addr   `json:",omitzero"`
	IP6       netip.Prefix `json:",omitzero"`
	Gateway6  netip.Addr   `json:",omitzero"`
	MAC       string
	Aliases   []string
}

// Result says what a Request led to.
type Result struct {
	// Networks are by name.
	Networks map[string]Status
	// Ports have the host ports that were chosen.
	Ports []Port
	// Nameservers, Search and Options go to resolv.conf.
	Nameservers, Search, Options []string
	// HostGateway is the host as the container sees it, for
	// host.docker.internal and --add-host NAME:host-gateway. The zero Addr
	// means that the host cannot be reached.
	HostGateway netip.Addr
	// Warnings are for the user: what will not work, and what to do.
	Warnings []string
}

// ErrPortInUse is wrapped by the error about a published port that somebody else
// has.
var ErrPortInUse = errors.New("port is already allocated")
