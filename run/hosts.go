package run

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"

	"cooper/run/internal/life"
)

// defaultHosts is what docker writes.
const defaultHosts = "127.0.0.1\tlocalhost\n" +
	"::1\tlocalhost ip6-localhost ip6-loopback\n" +
	"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"

// hostGateway stands for the host's address where the container sees it.
const hostGateway = life.HostGateway

// hostsFile makes /etc/hosts: on the host's network the host's own names hold
// too. The container's name is added so that it resolves to itself.
func (c *Config) hostsFile(hostname string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(defaultHosts)
	if c.hostNetwork() {
		if own, err := os.ReadFile("/etc/hosts"); err == nil && len(own) > 0 {
			b.Reset()
			b.Write(bytes.TrimRight(own, "\n"))
			b.WriteByte('\n')
		}
	}
	for _, h := range c.ExtraHosts {
		name, ip, ok := strings.Cut(h, ":")
		if !ok { // docker takes name=ip as well
			name, ip, ok = strings.Cut(h, "=")
		}
		if !ok || name == "" || ip == "" {
			return nil, fmt.Errorf("extra host %q: want NAME:IP", h)
		}
		ip = strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]")
		if ip == hostGateway && c.Network != sandboxed {
			ip = "127.0.0.1" // without a network of its own the host is here
		}
		if ip != hostGateway && net.ParseIP(ip) == nil {
			return nil, fmt.Errorf("extra host %q: %q is no IP address", h, ip)
		}
		fmt.Fprintf(&b, "%s\t%s\n", ip, name)
	}
	if hostname != "" && !hasName(b.Bytes(), hostname) {
		names := hostname
		if c.Domainname != "" {
			names = hostname + "." + c.Domainname + " " + hostname
		}
		fmt.Fprintf(&b, "127.0.0.1\t%s\n", names)
	}
	return b.Bytes(), nil
}

// hasName reports whether a hosts file has a line for name.
func hasName(hosts []byte, name string) bool {
	for line := range strings.Lines(string(hosts)) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 1 {
			for _, n := range f[1:] {
				if n == name {
					return true
				}
			}
		}
	}
	return false
}

// resolvConf makes /etc/resolv.conf: the host's, with what c names in place of its
// lines of that kind.
func (c *Config) resolvConf() []byte {
	own, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		own = nil
	}
	replaced := map[string][]string{}
	if len(c.DNS) > 0 {
		replaced["nameserver"] = c.DNS
	}
	if len(c.DNSSearch) > 0 {
		replaced["search"], replaced["domain"] = []string{strings.Join(c.DNSSearch, " ")}, nil
	}
	if len(c.DNSOptions) > 0 {
		replaced["options"] = []string{strings.Join(c.DNSOptions, " ")}
	}
	if len(replaced) == 0 {
		return own
	}
	var b bytes.Buffer
	for line := range strings.Lines(string(own)) {
		f := strings.Fields(line)
		if len(f) > 0 {
			if _, ok := replaced[f[0]]; ok {
				continue
			}
		}
		b.WriteString(strings.TrimRight(line, "\n") + "\n")
	}
	for _, key := range []string{"search", "nameserver", "options"} {
		for _, v := range replaced[key] {
			if v != "." { // "--dns-search ." means none
				fmt.Fprintf(&b, "%s %s\n", key, v)
			}
		}
	}
	return b.Bytes()
}
