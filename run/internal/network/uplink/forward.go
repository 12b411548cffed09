package uplink

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// devconfForwarding is IPV4_DEVCONF_FORWARDING of linux/ip.h.
const devconfForwarding = 1

// Forward has packets of IPv4 forwarded that come in by an interface, named by its
// index, of the calling thread's namespace. That is what the sysctl ip_forward does
// for all interfaces; but inside of a container files below /proc/sys are read-only.
func Forward(index int) error {
	request := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(index)
	request.AddData(message)
	families := nl.NewRtAttr(unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, nil)
	settings := families.AddRtAttr(unix.AF_INET|unix.NLA_F_NESTED, nil).AddRtAttr(unix.IFLA_INET_CONF|unix.NLA_F_NESTED, nil)
	settings.AddRtAttr(devconfForwarding, binary.NativeEndian.AppendUint32(nil, 1))
	request.AddData(families)
	if _, err := request.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("forward packets: %w", err)
	}
	return nil
}
