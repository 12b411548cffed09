package dockerfile

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
)

func (d *dispatcher) expose(c *instructions.ExposeCommand) error {
	var ports []string
	for _, word := range c.Ports {
		specs, err := expandWords(d.lex, word, d.stage.env)
		if err != nil {
			return err
		}
		for _, spec := range specs {
			found, err := parsePort(spec)
			if err != nil {
				return err
			}
			if found.protocol != strings.ToLower(found.protocol) {
				d.lint.Run(&linter.RuleExposeProtoCasing, c.Location(), linter.RuleExposeProtoCasing.Format(spec))
			}
			if found.mapped {
				d.lint.Run(&linter.RuleExposeInvalidFormat, c.Location(), linter.RuleExposeInvalidFormat.Format(spec))
			}
			for port := found.first; port <= found.last; port++ {
				ports = append(ports, strconv.Itoa(port)+"/"+strings.ToLower(found.protocol))
			}
		}
	}
	config := &d.config.Config
	if config.ExposedPorts == nil {
		config.ExposedPorts = map[string]struct{}{}
	}
	for _, p := range ports {
		config.ExposedPorts[p] = struct{}{}
	}
	return d.metadata(fmt.Sprintf("EXPOSE %v", ports))
}

// portRange is what one word of EXPOSE says.
type portRange struct {
	first, last int
	protocol    string
	mapped      bool // has an address or a port of the host, which mean nothing here
}

// parsePort reads "[[IP:]HOSTPORT:]PORT[-PORT][/PROTOCOL]".
func parsePort(spec string) (portRange, error) {
	ip, host, container := splitPort(spec)
	port, protocol, _ := strings.Cut(container, "/")
	r := portRange{protocol: protocol, mapped: ip != "" || host != ""}
	if port == "" {
		return r, fmt.Errorf("invalid port: %q: no port specified", spec)
	}
	switch strings.ToLower(protocol) {
	case "":
		r.protocol = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return r, fmt.Errorf("invalid port: %q: invalid proto: %s", spec, protocol)
	}
	if strings.HasPrefix(ip, "[") {
		inner, _, err := net.SplitHostPort(ip + ":")
		if err != nil {
			return r, fmt.Errorf("invalid IP address %v: %w", ip, err)
		}
		ip = inner
	}
	if ip != "" && net.ParseIP(ip) == nil {
		return r, errors.New("invalid IP address: " + ip)
	}
	var ok bool
	if r.first, r.last, ok = parseRange(port); !ok {
		return r, errors.New("invalid containerPort: " + port)
	}
	if host == "" {
		return r, nil
	}
	first, last, ok := parseRange(host)
	if !ok {
		return r, errors.New("invalid hostPort: " + host)
	}
	if r.first != r.last && r.last-r.first != last-first {
		return r, fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", port, host)
	}
	return r, nil
}

func splitPort(spec string) (ip, host, container string) {
	i := strings.LastIndexByte(spec, ':')
	if i < 0 {
		return "", "", spec
	}
	rest := spec[:i]
	if j := strings.LastIndexByte(rest, ':'); j >= 0 {
		return rest[:j], rest[j+1:], spec[i+1:]
	}
	return "", rest, spec[i+1:]
}

func parseRange(s string) (first, last int, ok bool) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	a, err1 := strconv.Atoi(from)
	b, err2 := strconv.Atoi(to)
	return a, b, err1 == nil && err2 == nil && a >= 0 && a <= b && b <= 65535
}
