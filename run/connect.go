package run

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"cooper/run/internal/life"
	"cooper/run/internal/network"
	"cooper/run/internal/spawn"
)

// sandboxed is Config.Network of a container whose network namespace its monitor
// makes. The path is replaced by the monitor.
const sandboxed = "ns:" + life.AnyNamespace

// cutContainer returns the name in a mode "container:NAME".
func cutContainer(mode string) (name string, ok bool) { return strings.CutPrefix(mode, "container:") }

// connect says in req and conf which network the container has.
func (c *Container) connect(req *life.Request, t *Task, conf *Config) error {
	mode := c.opts().NetworkMode
	switch {
	case mode == "host" || mode == "none" || strings.HasPrefix(mode, "ns:"):
		conf.Network = mode
		return nil
	case strings.HasPrefix(mode, "container:"):
		return c.joinNetwork(req, t, conf)
	}
	conf.Network = sandboxed
	attachments, err := c.attachments()
	if err != nil {
		return err
	}
	req.Network = &network.Request{
		ID: c.id, Name: c.opts().Name, Hostname: conf.Hostname, Attachments: attachments, Ports: c.opts().Ports,
		DNS: conf.DNS, Search: conf.DNSSearch, Options: conf.DNSOptions,
		RunDir: networkDir(), Rootless: spawn.InUserNamespace(),
	}
	if req.Network.Hostname == "" {
		req.Network.Hostname = c.id[:12]
	}
	return nil
}

// joinNetwork uses another container's network namespace, and the files that go
// with it.
func (c *Container) joinNetwork(req *life.Request, t *Task, conf *Config) error {
	other, st, err := c.other(c.opts().NetworkMode)
	if err != nil {
		return err
	}
	ns := filepath.Join("/proc", strconv.Itoa(st.PID), "ns", "net")
	conf.Network, req.JoinedNetwork = "ns:"+ns, ns
	if conf.Hostname == "" {
		conf.Hostname = other.opts().Config.Hostname
		if conf.Hostname == "" {
			conf.Hostname = other.id[:12]
		}
	}
	t.Files = map[string]File{}
	for _, name := range []string{"/etc/hosts", "/etc/resolv.conf"} {
		b, err := os.ReadFile(path.Join("/proc", strconv.Itoa(st.PID), "root", name))
		if err != nil {
			return fmt.Errorf("read %s of container %s: %w", name, other.opts().Name, err)
		}
		t.Files[name] = File{Data: b}
	}
	return nil
}
