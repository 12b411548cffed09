package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"cooper/run/internal/life"
	"cooper/run/internal/wire"
)

// ErrNotRunning is wrapped by the error of what needs a container that runs.
var ErrNotRunning = errors.New("the container is not running")

// Attach connects streams with a running container and returns how it ended, or
// ErrDetached.
func (c *Container) Attach(ctx context.Context, streams Streams) (Status, error) {
	s := &session{name: c.opts().Name, terminal: c.opts().Config.Terminal, streams: &streams}
	conn, err := c.dial()
	if err != nil {
		return Status{}, err
	}
	req := life.Attach{Input: streams.Stdin != nil}
	files := s.giveOutput(&req, nil)
	if err := c.ask(conn, life.KindAttach, req, nil, files...); err != nil {
		conn.Close()
		return Status{}, err
	}
	s.open(conn, nil)
	defer s.close()
	return s.follow(ctx)
}

// dial connects with the container's monitor.
func (c *Container) dial() (*wire.Conn, error) {
	st, err := c.State()
	if err != nil {
		return nil, err
	}
	notRunning := fmt.Errorf("container %s: %w", c.opts().Name, ErrNotRunning)
	if !st.Alive() {
		return nil, notRunning
	}
	dir, err := os.Open(c.RunDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notRunning
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	uc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: life.FilePath(dir, life.SocketFile), Net: "unix"})
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
		return nil, notRunning // it has ended just now
	}
	if err != nil {
		return nil, fmt.Errorf("monitor of container %s at %s: %w", c.opts().Name, filepath.Join(c.RunDir(), life.SocketFile), err)
	}
	return wire.Wrap(uc), nil
}

// ask sends a request and waits for its answer, whose files it gives to take.
func (c *Container) ask(conn *wire.Conn, kind wire.Kind, body any, take func([]*os.File), files ...*os.File) error {
	if err := conn.Send(kind, body, files...); err != nil {
		return fmt.Errorf("monitor of container %s: %w", c.opts().Name, err)
	}
	m, err := conn.Recv()
	if err != nil {
		return fmt.Errorf("monitor of container %s: %w", c.opts().Name, err)
	}
	var done life.Done
	if err := m.Decode(&done); err != nil {
		m.Close()
		return err
	}
	if take != nil && done.Error == "" {
		take(m.Files)
		m.Files = nil
	}
	m.Close()
	switch {
	case done.NotRunning:
		return fmt.Errorf("container %s: %w", c.opts().Name, ErrNotRunning)
	case done.Error != "":
		return fmt.Errorf("container %s: %s", c.opts().Name, done.Error)
	}
	return nil
}
