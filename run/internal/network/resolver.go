package network

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// resolvConf is where the host's name servers are.
const resolvConf = "/etc/resolv.conf"

// resolverConfig is what resolv.conf(5) says.
type resolverConfig struct {
	servers         []netip.AddrPort
	search, options []string
}

// parseResolver reads a resolv.conf. As with the C library, the machine itself is
// asked when no name server is given.
func parseResolver(b []byte) resolverConfig {
	var c resolverConfig
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil {
				c.servers = append(c.servers, netip.AddrPortFrom(a, 53))
			}
		case "search", "domain":
			c.search = f[1:]
		case "options":
			c.options = append(c.options, f[1:]...)
		}
	}
	if len(c.servers) == 0 {
		c.servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}
	}
	return c
}

// resolver returns the search domains and options for a container: those that r
// names, or the host's. Names of containers have no dot, and must not be tried in
// other domains first, unless somebody says so.
func resolver(r *Request) (search, options []string) {
	b, err := os.ReadFile(resolvConf)
	if err != nil {
		b = nil
	}
	host := parseResolver(b)
	search, options = r.Search, slices.Clone(r.Options)
	if len(search) == 0 {
		search = host.search
	}
	if len(options) == 0 {
		options = slices.Clone(host.options)
	}
	if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		options = append(options, "ndots:0")
	}
	return slices.DeleteFunc(slices.Clone(search), func(d string) bool { return d == "." }), options
}

// upstream returns the name servers to relay to: those of r, or the host's as they
// are at that time.
func upstream(r *Request) func() []netip.AddrPort {
	var asked []netip.AddrPort
	for _, s := range r.DNS {
		if a, err := netip.ParseAddr(s); err == nil {
			asked = append(asked, netip.AddrPortFrom(a, 53))
		}
	}
	if len(asked) > 0 {
		return func() []netip.AddrPort { return asked }
	}
	var mu sync.Mutex
	var changed time.Time
	servers := parseResolver(nil).servers
	return func() []netip.AddrPort {
		mu.Lock()
		defer mu.Unlock()
		st, err := os.Stat(resolvConf)
		if err != nil || st.ModTime().Equal(changed) {
			return servers
		}
		if b, err := os.ReadFile(resolvConf); err == nil {
			servers, changed = parseResolver(b).servers, st.ModTime()
		}
		return servers
	}
}
