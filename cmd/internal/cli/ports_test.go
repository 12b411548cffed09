package cli

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"cooper/run"
)

func TestParsePublish(t *testing.T) {
	at := func(ip string, host, container uint16, protocol string) run.PortMapping {
		m := run.PortMapping{HostPort: host, ContainerPort: container, Protocol: protocol}
		if ip != "" {
			m.HostIP = netip.MustParseAddr(ip)
		}
		return m
	}
	for _, c := range []struct {
		in   string
		want []run.PortMapping
		fail string
	}{
		{"80", []run.PortMapping{at("", 0, 80, "tcp")}, ""},
		{"80/udp", []run.PortMapping{at("", 0, 80, "udp")}, ""},
		{"80/SCTP", []run.PortMapping{at("", 0, 80, "sctp")}, ""},
		{"8080:80", []run.PortMapping{at("", 8080, 80, "tcp")}, ""},
		{":80", []run.PortMapping{at("", 0, 80, "tcp")}, ""},
		{"127.0.0.1:8080:80/tcp", []run.PortMapping{at("127.0.0.1", 8080, 80, "tcp")}, ""},
		{"127.0.0.1::80", []run.PortMapping{at("127.0.0.1", 0, 80, "tcp")}, ""},
		{"[::1]:8080:80", []run.PortMapping{at("::1", 8080, 80, "tcp")}, ""},
		{"::1:8080:80", []run.PortMapping{at("::1", 8080, 80, "tcp")}, ""},
		{"[::]::80", []run.PortMapping{at("::", 0, 80, "tcp")}, ""},
		{"80-82", []run.PortMapping{at("", 0, 80, "tcp"), at("", 0, 81, "tcp"), at("", 0, 82, "tcp")}, ""},
		{"8080-8081:80-81/udp", []run.PortMapping{at("", 8080, 80, "udp"), at("", 8081, 81, "udp")}, ""},
		{"9000-9010:80", []run.PortMapping{{HostPort: 9000, HostPortLast: 9010, ContainerPort: 80, Protocol: "tcp"}}, ""},
		{"published=8080,target=80,protocol=udp", []run.PortMapping{at("", 8080, 80, "udp")}, ""},
		{"target=80", []run.PortMapping{at("", 0, 80, "tcp")}, ""},
		{"65535:65535", []run.PortMapping{at("", 65535, 65535, "tcp")}, ""},
		{"", nil, "no port specified: <empty>"},
		{"80:", nil, "no port specified: 80:<empty>"},
		{"80/icmp", nil, "invalid proto: icmp"},
		{"80/", nil, "invalid proto: "},
		{"a:80", nil, "invalid hostPort: a"},
		{"80:a", nil, "invalid containerPort: a"},
		{"70000:80", nil, "invalid hostPort: 70000"},
		{"80:0x50", nil, "invalid containerPort: 0x50"},
		{"82-80", nil, "invalid containerPort: 82-80"},
		{"8080-8082:80-81", nil, "invalid ranges specified for container and host Ports: 80-81 and 8080-8082"},
		{"8080:80-81", nil, "invalid ranges specified for container and host Ports: 80-81 and 8080"},
		{"localhost:80:80", nil, "invalid IP address: localhost"},
		{"1.2.3:80:80", nil, "invalid IP address: 1.2.3"},
		{"fe80::1%eth0:80:80", nil, "invalid IP address: fe80::1%eth0"},
		{"published=1,x", nil, "invalid publish opts format (should be name=value but got 'x')"},
		{"mode=host,target=80", nil, `unknown key "mode"`},
	} {
		got, err := parsePublish(c.in)
		if !failsWith(err, c.fail) {
			t.Errorf("parsePublish(%q) fails with %v, want %q", c.in, err, c.fail)
			continue
		}
		if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.Addr{})); err == nil && diff != "" {
			t.Errorf("parsePublish(%q) (-want +got):\n%s", c.in, diff)
		}
	}
}

func TestCheckPorts(t *testing.T) {
	for _, c := range []struct {
		specs []string
		fail  string
	}{
		{[]string{"80:80", "81:80"}, ""},
		{[]string{"80", "80"}, ""},
		{[]string{"80-81:80", "80-81:81", "80:82"}, ""},
		{[]string{"80:80", "80:80/udp"}, ""},
		{[]string{"127.0.0.1:80:80", "127.0.0.2:80:80", "[::1]:80:80"}, ""},
		{[]string{"0.0.0.0:80:80", "[::]:80:80"}, ""},
		{[]string{"80:80", "80:81"}, "bind for 0.0.0.0:80 failed: port is already allocated"},
		{[]string{"80:80", "127.0.0.1:80:81"}, "bind for 127.0.0.1:80 failed"},
		{[]string{"127.0.0.1:80:80", "0.0.0.0:80:81"}, "bind for 0.0.0.0:80 failed"},
		{[]string{"[::1]:80:80", "[::1]:79-81:79-81"}, "bind for [::1]:80 failed"},
	} {
		var all []run.PortMapping
		for _, s := range c.specs {
			list, err := parsePublish(s)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, list...)
		}
		if err := checkPorts(all); !failsWith(err, c.fail) {
			t.Errorf("checkPorts(%q) = %v, want %q", c.specs, err, c.fail)
		}
	}
}
