package run

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cooper/layers"
)

func TestParseUserNS(t *testing.T) {
	for mode, want := range map[string]string{ // the mode, "" for none, or what the error has
		"":                         "",
		"host":                     "",
		"keep-id":                  "keep-id",
		"keep-id:uid=5,gid=6":      "keep-id:uid=5,gid=6",
		"keep-id:gid=6":            "keep-id:gid=6",
		"keep-id:size=6":           `error: unknown option "size": want uid or gid`,
		"keep-id:uid=":             `error: "" is no id`,
		"keep-id:uid=4294967295":   `error: "4294967295" is no id`,
		"nomap":                    "nomap",
		"nomap:1":                  "error: it takes no options",
		"private":                  "private",
		"auto":                     "auto",
		"auto:size=70000":          "auto:size=70000",
		"auto:size=0":              "error: size=0: want a number of ids",
		"auto:uidmapping=0:1000:5": "auto:uidmapping=0:1000:5",
		"auto:gidmapping=0:1000:0": `error: the size is 0`,
		"auto:uidmapping=0":        `error: want CONTAINER:OUTSIDE:SIZE`,
		"container:web":            "container:web",
		"container:":               "error: want container: and a name",
		"ns:/proc/1/ns/user":       "ns:/proc/1/ns/user",
		"keep_id":                  "error: invalid USER mode: keep_id; want host",
		"host:x":                   "error: invalid USER mode: host:x; want host",
	} {
		u, err := ParseUserNS(mode)
		if message, fails := strings.CutPrefix(want, "error: "); fails {
			if err == nil || !strings.Contains(err.Error(), message) {
				t.Errorf("ParseUserNS(%q) = %v, %v, want the error %s", mode, u, err, message)
			}
			continue
		}
		got := ""
		if u != nil {
			got = u.Mode
		}
		if err != nil || got != want {
			t.Errorf("ParseUserNS(%q) = %q, %v, want %q", mode, got, err, want)
		}
	}
}

func TestKeepOne(t *testing.T) {
	for _, tt := range []struct {
		id, count uint32
		want      []layers.IDRange
	}{
		{1000, 65536, []layers.IDRange{{Inside: 0, Outside: 1, Size: 1000}, {Inside: 1000, Size: 1}, {Inside: 1001, Outside: 1001, Size: 64536}}},
		{0, 65536, []layers.IDRange{{Size: 1}, {Inside: 1, Outside: 1, Size: 65536}}},
		{70000, 65536, []layers.IDRange{{Inside: 0, Outside: 1, Size: 65536}, {Inside: 70000, Size: 1}}},
		{65536, 65536, []layers.IDRange{{Inside: 0, Outside: 1, Size: 65536}, {Inside: 65536, Size: 1}}},
	} {
		if diff := cmp.Diff(tt.want, keepOne(tt.id, tt.count)); diff != "" {
			t.Errorf("keepOne(%d, %d) (-want +got):\n%s", tt.id, tt.count, diff)
		}
	}
}

func TestAutoMap(t *testing.T) {
	all := []idRange{{100, 200}, {1000, 1100}}
	for name, tt := range map[string]struct {
		size        uint32
		fixed, used []layers.IDRange
		want        []layers.IDRange // nil: no room
	}{
		"first":                {10, nil, nil, []layers.IDRange{{Inside: 0, Outside: 100, Size: 10}}},
		"after another":        {10, nil, []layers.IDRange{{Outside: 100, Size: 5}}, []layers.IDRange{{Outside: 105, Size: 10}}},
		"in a gap":             {10, nil, []layers.IDRange{{Outside: 110, Size: 5}}, []layers.IDRange{{Outside: 100, Size: 10}}},
		"gap too small":        {11, nil, []layers.IDRange{{Outside: 110, Size: 5}}, []layers.IDRange{{Outside: 115, Size: 11}}},
		"in the second range":  {90, nil, []layers.IDRange{{Outside: 150, Size: 1}}, []layers.IDRange{{Outside: 1000, Size: 90}}},
		"none is left":         {90, nil, []layers.IDRange{{Outside: 150, Size: 1}, {Outside: 1050, Size: 1}}, nil},
		"too many":             {101, nil, nil, nil},
		"around a fixed range": {10, []layers.IDRange{{Inside: 4, Outside: 7, Size: 2}}, nil, []layers.IDRange{{Inside: 0, Outside: 100, Size: 4}, {Inside: 4, Outside: 7, Size: 2}, {Inside: 6, Outside: 104, Size: 4}}},
		"fixed in the range":   {3, []layers.IDRange{{Inside: 0, Outside: 101, Size: 1}}, nil, []layers.IDRange{{Inside: 0, Outside: 101, Size: 1}, {Inside: 1, Outside: 102, Size: 2}}},
	} {
		got, err := autoMap("uid", tt.size, tt.fixed, all, tt.used)
		if (err == nil) != (tt.want != nil) {
			t.Errorf("%s: error %v", name, err)
		}
		if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestSplitRanges(t *testing.T) {
	own := [][3]uint64{{0, 1000, 1}, {1, 100000, 50}, {51, 300000, 50}}
	got := splitRanges([]layers.IDRange{{Inside: 0, Outside: 0, Size: 101}}, own)
	want := []layers.IDRange{{Inside: 0, Outside: 0, Size: 1}, {Inside: 1, Outside: 1, Size: 50}, {Inside: 51, Outside: 51, Size: 50}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("splitRanges (-want +got):\n%s", diff)
	}
}

func TestAutoSize(t *testing.T) {
	for name, tt := range map[string]struct {
		passwd, group, user string
		want                uint32
	}{
		"empty":            {"", "", "", 1024},
		"high user":        {"app:x:2000:3000::/:/bin/sh\n", "", "", 3001},
		"high group":       {"", "g:x:5000:\n", "", 5001},
		"nobody":           {"nobody:x:65534:65534:nobody:/:/bin/false\n", "nogroup:x:65534:\n", "", 1024},
		"the user":         {"", "", "4000:4500", 4501},
		"more than a user": {"app:x:1000000:1000000::/:/bin/sh\n", "", "", 65536},
	} {
		dir := t.TempDir()
		if err := os.Mkdir(dir+"/etc", 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, dir+"/etc/passwd", tt.passwd, 0o644)
		write(t, dir+"/etc/group", tt.group, 0o644)
		v, err := layers.OpenView(dir)
		if err != nil {
			t.Fatal(err)
		}
		got, err := autoSizeFor(tt.user, v)
		if err != nil || got != tt.want {
			t.Errorf("%s: autoSizeFor = %d, %v, want %d", name, got, err, tt.want)
		}
		v.Close()
	}
}
