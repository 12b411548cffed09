package cli

import (
	"fmt"
	"net/netip"
	"strconv"

	"cooper/run"
)

// networkInspect is the NetworkSettings of docker's inspect.
type networkInspect struct {
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	Ports                  map[string][]portBinding
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	Networks               map[string]endpointInspect
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
}

type portBinding struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// endpointInspect is a container's place on one network.
type endpointInspect struct {
	IPAMConfig          *ipamInspect
	Links               []string
	Aliases             []string
	MacAddress          string
	NetworkID           string
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	DNSNames            []string
}

type ipamInspect struct {
	IPv4Address string `json:",omitempty"`
	IPv6Address string `json:",omitempty"`
}

// describeNetworks describes a container's networks: those it is on while it runs,
// else those that it will be on.
func describeNetworks(o run.ContainerOptions, st run.State) networkInspect {
	in := networkInspect{Ports: map[string][]portBinding{}, Networks: map[string]endpointInspect{}, SandboxKey: st.NetworkPath}
	if st.Alive() {
		for _, port := range o.Exposed {
			in.Ports[port] = nil
		}
		for _, p := range publishedPorts(st) {
			key := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
			for _, ip := range hostIPs(p) {
				in.Ports[key] = append(in.Ports[key], portBinding{HostIP: ip, HostPort: strconv.Itoa(int(p.HostPort))})
			}
		}
	}
	asked := make(map[string]run.NetworkAttachment)
	for _, n := range o.Networks {
		asked[n.Network] = n
	}
	for i, name := range networkNames(o) {
		end := describeEndpoint(o, asked[name], st.Networks[name])
		in.Networks[name] = end
		if i == 0 { // docker has the default network's here too; scripts read it of any
			in.Gateway, in.IPAddress, in.IPPrefixLen, in.MacAddress = end.Gateway, end.IPAddress, end.IPPrefixLen, end.MacAddress
			in.IPv6Gateway, in.GlobalIPv6Address, in.GlobalIPv6PrefixLen = end.IPv6Gateway, end.GlobalIPv6Address, end.GlobalIPv6PrefixLen
		}
	}
	return in
}

func describeEndpoint(o run.ContainerOptions, asked run.NetworkAttachment, now run.NetworkStatus) endpointInspect {
	end := endpointInspect{
		Aliases: asked.Aliases, MacAddress: now.MAC, Gateway: addrText(now.Gateway), IPv6Gateway: addrText(now.Gateway6),
		DNSNames: append([]string{o.Name, shortID(o.ID)}, asked.Aliases...),
	}
	if now.IP.IsValid() {
		end.IPAddress, end.IPPrefixLen = now.IP.Addr().String(), now.IP.Bits()
	}
	if now.IP6.IsValid() {
		end.GlobalIPv6Address, end.GlobalIPv6PrefixLen = now.IP6.Addr().String(), now.IP6.Bits()
	}
	if asked.IP.IsValid() || asked.IP6.IsValid() {
		end.IPAMConfig = &ipamInspect{IPv4Address: addrText(asked.IP), IPv6Address: addrText(asked.IP6)}
	}
	return end
}

// addrText is "" for no address.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
