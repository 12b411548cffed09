package cdi

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"tags.cncf.io/container-device-interface/specs-go"
)

func readTestdata() *Devices { return Read("testdata/missing", "testdata/etc", "testdata/run") }

func TestFind(t *testing.T) {
	d := readTestdata()
	for _, tt := range []struct {
		name string
		want []string
	}{
		{"vendor.com/disk=b", []string{"vendor.com/disk=b"}},
		{"vendor.com/disk", []string{"vendor.com/disk=a"}},
		{"vendor.com/disk=*", []string{"vendor.com/disk=a", "vendor.com/disk=b"}},
		{"vendor.com/disk=c", nil},
		{"vendor.com/dis", nil},
		{"vendor.com/broken=one", nil},
		{"vendor.com/twice=one", nil},
		{"vendor.com/twice", nil},
		{"storage", []string{"vendor.com/disk=a", "vendor.com/disk=b"}},
		{"", nil},
	} {
		if got := d.Find(tt.name); strings.Join(got, " ") != strings.Join(tt.want, " ") {
			t.Errorf("%q: found %q, want %q", tt.name, got, tt.want)
		}
	}
	for name, want := range map[string]bool{"vendor.com/disk=a": true, "vendor.com/disk=b": false, "none": false} {
		if got := d.AutoAllow(name); got != want {
			t.Errorf("%s is allowed to every build: %v, want %v", name, got, want)
		}
	}
}

func TestEdits(t *testing.T) {
	d := readTestdata()
	for _, tt := range []struct {
		names string
		want  specs.ContainerEdits
	}{
		{"vendor.com/disk=b vendor.com/disk=a", specs.ContainerEdits{
			Env:    []string{"DISK=1", "B=1", "A=1"},
			Mounts: []*specs.Mount{{HostPath: "/etc", ContainerPath: "/run/disk", Options: []string{"ro"}}},
		}},
		{"vendor.com/null=one", specs.ContainerEdits{Env: []string{"FROM=run"}}},
		{"vendor.com/null=two", specs.ContainerEdits{
			DeviceNodes:    []*specs.DeviceNode{{Path: "/dev/cooper-test", HostPath: "/dev/null", Permissions: "r"}},
			AdditionalGIDs: []uint32{0, 7},
		}},
	} {
		got, err := d.Edits(strings.Fields(tt.names)...)
		if err != nil {
			t.Errorf("%s: %v", tt.names, err)
		} else if diff := cmp.Diff(&tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.names, diff)
		}
	}
}

func TestEditsErrors(t *testing.T) {
	d := readTestdata()
	for name, want := range map[string]string{
		"vendor.com/refused=hook": "testdata/etc/refused.yaml wants a createContainer hook (/usr/bin/hook), and hooks are not run",
		"vendor.com/refused=net":  "wants a network device",
		"vendor.com/refused=rdt":  "wants limits of caches",
		"vendor.com/twice=one":    "is described twice, in testdata/etc/twice1.yaml and in testdata/etc/twice2.yaml",
		"vendor.com/broken=one":   "is not registered: no CDI specification in testdata/missing or testdata/etc or testdata/run describes it (not read: testdata/etc/broken.yaml: ",
		"vendor.com/disk":         "is not registered",
	} {
		if _, err := d.Edits(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "EOF",
		"cdiVersion: 9.0.0\nkind: v.com/c":    "invalid version",
		"cdiVersion: 0.3.0\nkind: c":          `kind "c": `,
		"cdiVersion: 0.3.0\nkind: v.com/c":    "no devices",
		"extra: 1":                            "field extra not found",
		"containerEdits: {mounts: [null]}":    "is empty",
		one("name: ''"):                       "empty",
		one("name: a}, {name: a"):             `device "a" is there twice`,
		edits("env: [A]"):                     `"A" is not NAME=VALUE`,
		edits("deviceNodes: [null]"):          "is empty",
		edits("deviceNodes: [{path: dev}]"):   "not absolute",
		node("type: x"):                       `type "x" is not known`,
		node("permissions: rx"):               `permissions "rx" are not known`,
		edits("mounts: [{hostPath: /etc}]"):   "a path is missing",
		edits("deviceNodes: [{hostPath: a}]"): "at least v0.5.0",
	} {
		if _, err := parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// one is a specification with one device, edits with these of it, and node with
// one node.
func one(device string) string {
	return "cdiVersion: 0.3.0\nkind: v.com/c\ndevices: [{" + device + "}]"
}

func edits(text string) string { return one("name: a, containerEdits: {" + text + "}") }

func node(text string) string { return edits("deviceNodes: [{path: /dev/a, " + text + "}]") }

// FuzzParse: whatever lies in the directories, nothing is worse than an error.
func FuzzParse(f *testing.F) {
	f.Add([]byte(node("type: c")))
	f.Add([]byte(`{"cdiVersion": "0.3.0", "kind": "v.com/c", "devices": [{"name": "a"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parse(b)
		if err != nil {
			return
		}
		d := &Devices{devices: map[string]*device{}}
		d.add(&file{Spec: s})
		for _, name := range d.Find(s.Kind + "=*") {
			d.AutoAllow(name)
			d.Edits(name)
		}
	})
}
