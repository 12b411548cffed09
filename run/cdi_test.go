package run

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const cdiSpec = `cdiVersion: 0.7.0
kind: vendor.com/test
containerEdits:
  env: [TEST=1]
  mounts: [{hostPath: /etc, containerPath: /run/test, options: [ro]}]
  additionalGids: [0, 77]
devices:
- name: "null"
  containerEdits:
    deviceNodes:
    - {path: /dev/other, hostPath: /dev/null, permissions: r}
    - {path: /dev/zero}
    - {path: /dev/mine, hostPath: /dev/zero, permissions: none, fileMode: 384, uid: 0, gid: 3}
- name: gone
  containerEdits:
    deviceNodes:
    - {path: /dev/gone, type: c, major: 1, minor: 3, fileMode: 438}
- name: missing
  containerEdits:
    deviceNodes:
    - {path: /dev/gone}
- name: block
  containerEdits:
    deviceNodes:
    - {path: /dev/null, type: b}
`

// useCDI makes text the only CDI specification for the time of the test.
func useCDI(t *testing.T, text string) {
	dirs := cdiDirs
	cdiDirs = []string{t.TempDir()}
	t.Cleanup(func() { cdiDirs = dirs })
	if err := os.WriteFile(filepath.Join(cdiDirs[0], "test.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCDI(t *testing.T) {
	useCDI(t, cdiSpec)
	type view struct {
		Env, Mounts, Nodes, Rules []string
		Gids                      []uint32
	}
	rootless := rootTier
	rootless.Rootless = true
	zeroRule := "c 1:5 rwm"
	mount := "/etc on /run/test ro"
	for name, tt := range map[string]struct {
		device, user string
		tier         Tier
		want         view
	}{
		"root": {"null", "0", rootTier, view{
			[]string{"TEST=1"}, []string{mount}, []string{"/dev/other -:-", "/dev/zero -:-", "/dev/mine 0:3 600"},
			[]string{"c 1:3 r", zeroRule}, []uint32{0, 77},
		}},
		"other user": {"null", "5:6", rootTier, view{
			[]string{"TEST=1"}, []string{mount}, []string{"/dev/other 5:6", "/dev/zero 5:6", "/dev/mine 0:3 600"},
			[]string{"c 1:3 r", zeroRule}, []uint32{6, 77},
		}},
		"rootless": {"null", "0", rootless, view{
			[]string{"TEST=1"}, []string{mount, "/dev/null on /dev/other bind", "/dev/zero on /dev/mine bind"},
			[]string{"/dev/zero -:-"}, nil, []uint32{0, 77},
		}},
		"not on the host": {"gone", "0", rootTier, view{
			[]string{"TEST=1"}, []string{mount}, []string{"/dev/gone -:-"}, []string{"c 1:3 rwm"}, []uint32{0, 77},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := Config{Args: []string{"true"}, Env: []string{"TEST=0"}, User: tt.user, CDIDevices: []string{"vendor.com/test=" + tt.device}}
			s, err := c.Spec(nil, tt.tier)
			if err != nil {
				t.Fatal(err)
			}
			got := view{Gids: s.Process.User.AdditionalGids}
			for _, e := range s.Process.Env {
				if strings.HasPrefix(e, "TEST=") {
					got.Env = append(got.Env, e)
				}
			}
			for _, m := range s.Mounts {
				if m.Type == "bind" && m.Source[0] == '/' && (m.Destination == "/run/test" || strings.HasPrefix(m.Destination, "/dev/")) {
					option := "bind"
					if slices.Contains(m.Options, "ro") {
						option = "ro"
					}
					got.Mounts = append(got.Mounts, m.Source+" on "+m.Destination+" "+option)
				}
			}
			for _, d := range s.Linux.Devices {
				got.Nodes = append(got.Nodes, nodeText(d))
			}
			for _, r := range s.Linux.Resources.Devices {
				if r.Allow && r.Major != nil {
					got.Rules = append(got.Rules, ruleText(r))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if c.Env[0] != "TEST=0" || c.Mounts != nil {
				t.Error("the config was changed")
			}
		})
	}
}

func TestCDIErrors(t *testing.T) {
	useCDI(t, cdiSpec)
	for name, want := range map[string]string{
		"vendor.com/test=missing": "/dev/gone: no such file",
		"vendor.com/test=block":   "/dev/null is of type c, and a CDI specification has it as b",
		"vendor.com/test=x":       "is not registered",
	} {
		c := Config{Args: []string{"true"}, CDIDevices: []string{name}}
		if _, err := c.Spec(nil, rootTier); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}

// nodeText has the owner, - where it is left to the runtime, and a mode when it
// is not the usual one.
func nodeText(d specs.LinuxDevice) string {
	id := func(n *uint32) string {
		if n == nil {
			return "-"
		}
		return strconv.Itoa(int(*n))
	}
	text := d.Path + " " + id(d.UID) + ":" + id(d.GID)
	if *d.FileMode != 0o666 {
		text += fmt.Sprintf(" %o", *d.FileMode)
	}
	return text
}

func ruleText(r specs.LinuxDeviceCgroup) string {
	return fmt.Sprintf("%s %d:%d %s", r.Type, *r.Major, *r.Minor, r.Access)
}
