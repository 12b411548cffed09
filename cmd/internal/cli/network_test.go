package cli

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"cooper/run"
)

func TestNetworkFilters(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	networks := []run.Network{
		{Name: "bridge", ID: "02b6", Driver: "bridge"},
		{Name: "none", ID: "4e40", Driver: "null"},
		{Name: "back", ID: "0abc", Driver: "bridge", Labels: map[string]string{"tier": "back", "x": ""}, Created: now.Add(-48 * time.Hour)},
		{Name: "backup", ID: "ffff", Driver: "bridge", Labels: map[string]string{"tier": "front"}, Created: now.Add(-time.Hour)},
	}
	for filters, want := range map[string]string{
		"":                                       "bridge none back backup",
		"name=back":                              "back backup",
		"name=none name=backup":                  "none backup",
		"name=back driver=null":                  "",
		"driver=bridge":                          "bridge back backup",
		"id=0":                                   "bridge back",
		"label=tier":                             "back backup",
		"label=tier=back":                        "back",
		"label=tier label=x":                     "back",
		"label!=tier":                            "bridge none",
		"label!=tier=back":                       "bridge none backup",
		"type=builtin":                           "bridge none",
		"type=custom":                            "back backup",
		"scope=local":                            "bridge none back backup",
		"scope=swarm":                            "",
		"until=24h type=custom":                  "back",
		"until=2026-01-02T11:30:00Z type=custom": "back backup",
	} {
		known := []string{"driver", "id", "label", "label!", "name", "scope", "type", "until"}
		f, err := parseNetworkFilters(strings.Fields(filters), now, known...)
		if err != nil {
			t.Errorf("%s: %v", filters, err)
			continue
		}
		var got []string
		for _, n := range networks {
			if f(n) {
				got = append(got, n.Name)
			}
		}
		if !slices.Equal(got, strings.Fields(want)) && len(got)+len(want) > 0 {
			t.Errorf("%s: %q, want %q", filters, got, want)
		}
	}
	for _, bad := range []string{"color=red", "name", "type=odd", "until=soon", "label!=x"} {
		if _, err := parseNetworkFilters([]string{bad}, now, "name", "type", "until", "label"); err == nil {
			t.Errorf("filter %s is taken", bad)
		}
	}
}

func TestNetworkOptions(t *testing.T) {
	f := createNetworkFlags{
		driver: "bridge", ip4: true, ipv6: true, bridge: "br7", labels: []string{"a=b", "c"}, options: []string{"mtu=1400"},
		subnets: []string{"10.5.0.9/24", "fd05::/64"}, gateways: []string{"fd05::9", "10.5.0.254"}, ranges: []string{"10.5.0.128/25"},
	}
	got, err := f.networkOptions()
	if err != nil {
		t.Fatal(err)
	}
	want := run.NetworkOptions{
		Driver: "bridge", IPv6: true, Labels: map[string]string{"a": "b", "c": ""}, Options: map[string]string{"mtu": "1400", "interface_name": "br7"},
		Subnet: netip.MustParsePrefix("10.5.0.0/24"), Subnet6: netip.MustParsePrefix("fd05::/64"), IPRange: netip.MustParsePrefix("10.5.0.128/25"),
		Gateway: netip.MustParseAddr("10.5.0.254"), Gateway6: netip.MustParseAddr("fd05::9"),
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, f := range map[string]createNetworkFlags{
		"no IPv4":                  {},
		"a label without a name":   {ip4: true, labels: []string{"=x"}},
		"an option without value":  {ip4: true, options: []string{"mtu"}},
		"two subnets":              {ip4: true, subnets: []string{"10.5.0.0/24", "10.6.0.0/24"}},
		"no subnet":                {ip4: true, subnets: []string{"10.5.0.0"}},
		"gateway without a subnet": {ip4: true, gateways: []string{"10.5.0.1"}},
		"no gateway":               {ip4: true, subnets: []string{"10.5.0.0/24"}, gateways: []string{"router"}},
		"a range of IPv6":          {ip4: true, ranges: []string{"fd00::/64"}},
	} {
		if o, err := f.networkOptions(); err == nil {
			t.Errorf("%s: %+v", name, o)
		}
	}
}
