package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "cooper"

// tags are the build tags of the Makefile, where every one is explained.
const tags = "exclude_graphdriver_btrfs,containers_image_openpgp,netgo,osusergo"

// mayImport names, for each room, the rooms of ours that it may import.
var mayImport = map[string][]string{
	"dockerfile": {},
	"layers":     {},
	"registry":   {"layers"},
	"run":        {"layers"},
	"builder":    {"dockerfile", "layers", "registry", "run"},
	"cmd":        {"builder", "dockerfile", "layers", "registry", "run"},
	"internal":   {},
	"bench":      {},
}

// livesIn names the room that a third-party package (and what is below it)
// is used in; elsewhere only what that room hands out is used.
var livesIn = map[string][]string{
	"github.com/moby/buildkit":                {"dockerfile"},
	"go.podman.io/storage":                    {"layers"},
	"go.podman.io/image":                      {"registry"},
	"github.com/containers":                   {}, // frozen: the go.podman.io paths replace it
	"github.com/docker/docker":                {}, // a daemon's code
	"github.com/opencontainers/runc":          {"run"},
	"github.com/opencontainers/cgroups":       {"run"},
	"github.com/vishvananda/netlink":          {"run"},
	"gvisor.dev/gvisor":                       {"run"},
	"github.com/spf13":                        {"cmd"},
	"github.com/rogpeppe/go-internal":         {"cmd"},
	"github.com/stretchr/testify":             {}, // tests compare with go-cmp
	"github.com/containerd/containerd":        {},
	"github.com/google/go-containerregistry":  {"registry"},
	"github.com/opencontainers/umoci":         {},
	"github.com/opencontainers/runtime-tools": {"run"},
	"tags.cncf.io/container-device-interface": {"run"},
}

// exceptions are imports of a room that break livesIn, each with its reason.
var exceptions = map[[2]string]string{
	{"layers", "go.podman.io/image"}:                    "the reference to an image in the store",
	{"registry", "go.podman.io/storage/pkg/configfile"}: "the error by which image/signature says that there is no policy",
}

// excepted reports whether room may import path all the same.
func excepted(room, path string) bool {
	for e := range exceptions {
		if e[0] == room && within(path, e[1]) {
			return true
		}
	}
	return false
}

// goPackage is what go list says about a package.
type goPackage struct {
	ImportPath   string
	Dir          string
	Name         string
	GoFiles      []string
	CgoFiles     []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// packages lists the packages of this module.
func packages(t *testing.T) []goPackage {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the go command is not here")
	}
	cmd := exec.Command("go", "list", "-e", "-tags", tags,
		"-json=ImportPath,Dir,Name,GoFiles,CgoFiles,Imports,TestImports,XTestImports", module+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("decode the list of packages: %v", err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		t.Fatal("go list found no package")
	}
	return all
}

// room returns the top directory of a package of ours.
func room(importPath string) string {
	rest := strings.TrimPrefix(importPath, module+"/")
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// within reports whether path is prefix or below it, a version suffix of the
// prefix (/v5) counting as below.
func within(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func TestRoomsImportInOrder(t *testing.T) {
	for _, p := range packages(t) {
		from := room(p.ImportPath)
		allowed, known := mayImport[from]
		if !known {
			t.Errorf("%s: the design has no room %q", p.ImportPath, from)
			continue
		}
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if !within(path, module) {
				continue
			}
			if to := room(path); to != from && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s: %s may import %q only", p.ImportPath, path, from, allowed)
			}
		}
	}
}

func TestThirdPartyStaysInItsRoom(t *testing.T) {
	for _, p := range packages(t) {
		from := room(p.ImportPath)
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			for prefix, rooms := range livesIn {
				if within(path, prefix) && !slices.Contains(rooms, from) && !excepted(from, path) {
					t.Errorf("%s imports %s, which belongs in %q only", p.ImportPath, path, rooms)
				}
			}
		}
	}
}

func TestNoCatchAllPackages(t *testing.T) {
	banned := []string{"util", "utils", "common", "helper", "helpers", "types", "pkg", "misc", "manager"}
	for _, p := range packages(t) {
		for _, element := range strings.Split(p.ImportPath, "/") {
			if slices.Contains(banned, element) {
				t.Errorf("%s: %q says nothing about what the package owns", p.ImportPath, element)
			}
		}
	}
}
