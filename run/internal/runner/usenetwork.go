package runner

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"cooper/run/internal/life"
	"cooper/run/internal/network"
)

// useNetwork puts the container into a sandbox's namespace, and what it is to know
// about it into its /etc/hosts and /etc/resolv.conf.
func useNetwork(req *life.Request, sandbox *network.Sandbox) {
	for i, ns := range req.Run.Spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			req.Run.Spec.Linux.Namespaces[i].Path = sandbox.Path()
		}
	}
	result := sandbox.Result()
	for i := range req.Run.Files {
		f := &req.Run.Files[i]
		switch f.Path {
		case "/etc/hosts":
			f.Data = append(nameGateway(f.Data, result.HostGateway), hostLines(req.Network, &result)...)
		case "/etc/resolv.conf":
			if text := resolvConf(&result); len(text) > 0 {
				f.Data = text
			}
		}
	}
}

// nameGateway puts the host's address, if it has one, where it is asked for.
func nameGateway(hosts []byte, gateway netip.Addr) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(hosts) {
		names, asked := bytes.CutPrefix(line, []byte(life.HostGateway+"\t"))
		switch {
		case !asked:
			b.Write(line)
		case gateway.IsValid():
			fmt.Fprintf(&b, "%s\t%s", gateway, names)
		}
	}
	if gateway.IsValid() {
		fmt.Fprintf(&b, "%s\thost.containers.internal host.docker.internal\n", gateway)
	}
	return b.Bytes()
}

// hostLines are the container's own names for /etc/hosts.
func hostLines(req *network.Request, result *network.Result) []byte {
	var b bytes.Buffer
	names := req.Hostname
	if req.Name != "" && req.Name != req.Hostname {
		names += " " + req.Name
	}
	for _, a := range req.Attachments {
		status := result.Networks[a.Network.Name]
		if status.IP.IsValid() {
			fmt.Fprintf(&b, "%s\t%s\n", status.IP.Addr(), names)
		}
		if status.IP6.IsValid() {
			fmt.Fprintf(&b, "%s\t%s\n", status.IP6.Addr(), names)
		}
	}
	return b.Bytes()
}

// resolvConf is a resolv.conf, or nothing when there are no name servers to name.
func resolvConf(result *network.Result) []byte {
	if len(result.Nameservers) == 0 {
		return nil
	}
	var b bytes.Buffer
	if len(result.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(result.Search, " "))
	}
	for _, ip := range result.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", ip)
	}
	if len(result.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(result.Options, " "))
	}
	return b.Bytes()
}
