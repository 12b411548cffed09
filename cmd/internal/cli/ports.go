package cli

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"cooper/run"
)

// parsePublish reads a value of -p, [[IP:]HOST:]CONTAINER[/PROTOCOL], HOST and
// CONTAINER being ports or ranges of them. A range of host ports for one port of
// the container stands for any free one of them, which is chosen at each start.
func parsePublish(s string) ([]run.PortMapping, error) {
	if strings.Contains(s, "=") {
		var err error
		if s, err = longPublish(s); err != nil {
			return nil, err
		}
	}
	host, container := "", s
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, container = s[:i], s[i+1:]
	}
	container, protocol, err := cutProtocol(container)
	if err != nil {
		return nil, err
	}
	if container == "" {
		return nil, fmt.Errorf("no port specified: %s<empty>", s)
	}
	var ip netip.Addr
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		if ip, err = publishIP(host[:i]); err != nil {
			return nil, err
		}
		host = host[i+1:]
	}
	first, last, err := parsePorts(container)
	if err != nil {
		return nil, fmt.Errorf("invalid containerPort: %s", container)
	}
	var hostFirst, hostLast uint16
	if host != "" {
		if hostFirst, hostLast, err = parsePorts(host); err != nil {
			return nil, fmt.Errorf("invalid hostPort: %s", host)
		}
		if last != first && hostLast-hostFirst != last-first {
			return nil, fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", container, host)
		}
	}
	var list []run.PortMapping
	for port := int(first); port <= int(last); port++ {
		m := run.PortMapping{HostIP: ip, ContainerPort: uint16(port), Protocol: protocol}
		if host != "" {
			m.HostPort = hostFirst + uint16(port) - first
		}
		if last == first && hostLast != hostFirst {
			m.HostPortLast = hostLast
		}
		list = append(list, m)
	}
	return list, nil
}

// longPublish turns published=HOST,target=CONTAINER,protocol=PROTOCOL into the
// short form.
func longPublish(s string) (string, error) {
	values := map[string]string{"protocol": "tcp"}
	for field := range strings.SplitSeq(s, ",") {
		key, value, found := strings.Cut(field, "=")
		if !found || key == "" {
			return "", fmt.Errorf("invalid publish opts format (should be name=value but got '%s')", field)
		}
		switch key {
		case "published", "target", "protocol":
			values[key] = value
		default:
			return "", fmt.Errorf("invalid publish opts: unknown key %q: want published, target or protocol", key)
		}
	}
	return values["published"] + ":" + values["target"] + "/" + values["protocol"], nil
}

// cutProtocol splits "80/udp"; the protocol is tcp when there is none.
func cutProtocol(s string) (port, protocol string, err error) {
	port, protocol, found := strings.Cut(s, "/")
	if !found {
		return port, "tcp", nil
	}
	protocol = strings.ToLower(protocol)
	if !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
		return "", "", fmt.Errorf("invalid proto: %s", protocol)
	}
	return port, protocol, nil
}

// publishIP reads the address in a value of -p; "" is everywhere.
func publishIP(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s = s[1 : len(s)-1]
	}
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("invalid IP address: %s", s)
	}
	return ip, nil
}

// parsePorts reads a port or a range of them. 0 is no port.
func parsePorts(s string) (first, last uint16, err error) {
	from, to, found := strings.Cut(s, "-")
	if !found {
		to = from
	}
	for _, end := range []struct {
		text string
		to   *uint16
	}{{from, &first}, {to, &last}} {
		n, err := strconv.ParseUint(end.text, 10, 16)
		if err != nil {
			return 0, 0, fmt.Errorf("invalid port %q: want 1 to 65535", end.text)
		}
		*end.to = uint16(n)
	}
	if last < first {
		return 0, 0, fmt.Errorf("invalid range specified for port: %s", s)
	}
	return first, last, nil
}

// parseExpose reads a value of --expose: a port or a range of them, with a
// protocol or without.
func parseExpose(s string) ([]string, error) {
	if strings.Contains(s, ":") {
		return nil, fmt.Errorf("invalid port format for --expose: %s", s)
	}
	ports, protocol, err := cutProtocol(s)
	if err != nil {
		return nil, err
	}
	first, last, err := parsePorts(ports)
	if err != nil {
		return nil, fmt.Errorf("invalid range format for --expose: %s, error: %w", s, err)
	}
	var list []string
	for port := int(first); port <= int(last); port++ {
		list = append(list, strconv.Itoa(port)+"/"+protocol)
	}
	return list, nil
}

// checkPorts refuses two mappings of one host port.
func checkPorts(ports []run.PortMapping) error {
	type port struct {
		number   uint16
		protocol string
	}
	taken := make(map[port][]netip.Addr)
	for _, m := range ports {
		if m.HostPort == 0 || m.HostPortLast != 0 {
			continue // there may be others
		}
		p := port{m.HostPort, m.Protocol}
		if slices.ContainsFunc(taken[p], func(ip netip.Addr) bool { return overlap(ip, m.HostIP) }) {
			return fmt.Errorf("bind for %s failed: port is already allocated", hostPort(m))
		}
		taken[p] = append(taken[p], m.HostIP)
	}
	return nil
}

// overlap reports whether somebody who listens at a is in the way of b. The zero
// address is everywhere.
func overlap(a, b netip.Addr) bool {
	return !a.IsValid() || !b.IsValid() || a == b || a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}

// hostPort is where the host listens for m, as docker writes it.
func hostPort(m run.PortMapping) string {
	ip := "0.0.0.0"
	if m.HostIP.IsValid() {
		ip = m.HostIP.String()
	}
	return net.JoinHostPort(ip, strconv.Itoa(int(m.HostPort)))
}
