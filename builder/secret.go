package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"

	"cooper/builder/sshagent"
	"cooper/dockerfile"
)

// maxSecret is the size that BuildKit allows for a secret, in bytes.
const maxSecret = 500 << 10

// Secret is where a secret's value comes from: exactly one field is set.
type Secret struct {
	// File is a path.
	File string
	// Env is the name of an environment variable.
	Env string
}

var errNoSecret = errors.New("not found; give it with --secret id=...,src=FILE or env=NAME")

// secret reads the secret id. Its value is never logged, kept or part of a key.
func (o *Options) secret(id string) ([]byte, error) {
	s, ok := o.Secrets[id]
	if !ok {
		return nil, errNoSecret
	}
	if s.Env != "" {
		v, ok := os.LookupEnv(s.Env)
		if !ok {
			return nil, fmt.Errorf("environment variable %s is not set", s.Env)
		}
		return []byte(v), nil
	}
	f, err := os.Open(s.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(data) > maxSecret {
		err = fmt.Errorf("%s is larger than %d bytes", s.File, maxSecret)
	}
	return data, err
}

// ssh presents an agent's socket: connections to a socket of ours, with the
// owner and mode that the mount asks for, are passed on to it.
func (m *mounts) ssh(spec dockerfile.Mount) error {
	agent, ok := m.bd.o.SSH[spec.ID]
	if !ok {
		if !spec.Required {
			return nil
		}
		return fmt.Errorf("no SSH key %q forwarded from the client; give it with --ssh %s", spec.ID, spec.ID)
	}
	dir, err := sshagent.TempDir()
	if err != nil {
		return err
	}
	m.release = append(m.release, func() error { return os.RemoveAll(dir) })
	p := filepath.Join(dir, "agent")
	l, err := net.Listen("unix", p)
	if err != nil {
		return err
	}
	f := &forwarder{agent: agent, l: l}
	f.conns.Go(f.serve)
	m.release = append(m.release, f.close)
	if err := errors.Join(os.Chown(p, int(spec.UID), int(spec.GID)), os.Chmod(p, os.FileMode(spec.Mode))); err != nil {
		return err
	}
	m.specs = append(m.specs, specs.Mount{Type: "bind", Source: p, Destination: spec.Target, Options: []string{"rbind", "rprivate"}})
	m.env = append(m.env, "SSH_AUTH_SOCK="+spec.Target)
	return nil
}

// forwarder passes connections on to an agent's socket.
type forwarder struct {
	agent string
	l     net.Listener
	conns sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool
	done bool
}

func (f *forwarder) serve() {
	for {
		c, err := f.l.Accept()
		if err != nil {
			return
		}
		f.conns.Go(func() { f.forward(c) })
	}
}

// forward copies both ways until either side ends.
func (f *forwarder) forward(c net.Conn) {
	defer c.Close()
	var d net.Dialer
	a, err := d.DialContext(context.Background(), "unix", f.agent)
	if err != nil {
		return
	}
	defer a.Close()
	if !f.track(c, a) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(c, a)
		_ = c.Close()
	})
	_, _ = io.Copy(a, c)
	_ = a.Close()
	back.Wait()
}

// track remembers connections for close; it returns false when that was called.
func (f *forwarder) track(conns ...net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		f.open = map[net.Conn]bool{}
	}
	for _, c := range conns {
		f.open[c] = true
	}
	return !f.done
}

// close ends the listener and every connection.
func (f *forwarder) close() error {
	err := f.l.Close()
	f.mu.Lock()
	f.done = true
	for c := range f.open {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.conns.Wait()
	return err
}
