package cli

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"cooper/run"
)

// publishedPorts are the ports that a container has on the host: while it runs
// those that were bound, else none.
func publishedPorts(st run.State) []run.PortMapping {
	if !st.Alive() {
		return nil
	}
	ports := slices.Clone(st.Ports)
	slices.SortStableFunc(ports, func(a, b run.PortMapping) int {
		return cmp.Or(cmp.Compare(a.ContainerPort, b.ContainerPort), strings.Compare(a.Protocol, b.Protocol),
			a.HostIP.Compare(b.HostIP), cmp.Compare(a.HostPort, b.HostPort))
	})
	return ports
}

// hostIPs are the addresses of a mapping as docker shows them: a mapping without
// one is on all of IPv4 and IPv6.
func hostIPs(p run.PortMapping) []string {
	if !p.HostIP.IsValid() {
		return []string{"0.0.0.0", "::"}
	}
	return []string{p.HostIP.String()}
}

// portRange is a run of ports that follow each other, on one address.
type portRange struct {
	ip                        string // "" means only exposed
	protocol                  string
	first, last, host, hostTo uint16
}

// continues reports whether o is the port after r's.
func (r *portRange) continues(o portRange) bool {
	return o.ip == r.ip && o.protocol == r.protocol && o.first == r.last+1 && (r.ip == "" || o.host == r.hostTo+1)
}

func (r portRange) String() string {
	span := func(from, to uint16) string {
		if from == to {
			return strconv.Itoa(int(from))
		}
		return fmt.Sprintf("%d-%d", from, to)
	}
	inner := span(r.first, r.last) + "/" + r.protocol
	if r.ip == "" {
		return inner
	}
	host := span(r.host, r.hostTo)
	if strings.Contains(r.ip, ":") {
		return "[" + r.ip + "]:" + host + "->" + inner
	}
	return r.ip + ":" + host + "->" + inner
}

// portsText is the PORTS column of ps: "0.0.0.0:8080->80/tcp, 443/tcp".
func portsText(o run.ContainerOptions, st run.State) string {
	if !st.Alive() || o.NetworkMode == "host" || o.NetworkMode == "none" {
		return ""
	}
	byIP := make(map[string][]portRange)
	var order []string
	add := func(r portRange) {
		key := r.ip + "/" + r.protocol
		if byIP[key] == nil {
			order = append(order, key)
		}
		list := byIP[key]
		if n := len(list); n > 0 && list[n-1].continues(r) {
			list[n-1].last, list[n-1].hostTo = r.last, r.hostTo
			return
		}
		byIP[key] = append(list, r)
	}
	published := make(map[string]bool)
	for _, p := range publishedPorts(st) {
		published[fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)] = true
		for _, ip := range hostIPs(p) {
			add(portRange{ip: ip, protocol: p.Protocol, first: p.ContainerPort, last: p.ContainerPort, host: p.HostPort, hostTo: p.HostPort})
		}
	}
	for _, e := range sortedPorts(o.Exposed) {
		if !published[fmt.Sprintf("%d/%s", e.first, e.protocol)] {
			add(e)
		}
	}
	var words []string
	for _, key := range order {
		for _, r := range byIP[key] {
			words = append(words, r.String())
		}
	}
	return strings.Join(words, ", ")
}

// sortedPorts reads exposed ports ("80/tcp").
func sortedPorts(exposed []string) []portRange {
	var ports []portRange
	for _, word := range exposed {
		number, protocol, found := strings.Cut(word, "/")
		if !found {
			protocol = "tcp"
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			continue // an image may say anything
		}
		ports = append(ports, portRange{protocol: protocol, first: uint16(n), last: uint16(n)})
	}
	slices.SortFunc(ports, func(a, b portRange) int {
		return cmp.Or(strings.Compare(a.protocol, b.protocol), cmp.Compare(a.first, b.first))
	})
	return slices.Compact(ports)
}

// hostAddress is where a published port is on the host: "0.0.0.0:8080".
func hostAddress(ip string, port uint16) string {
	return net.JoinHostPort(ip, strconv.Itoa(int(port)))
}
