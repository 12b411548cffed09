package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"cooper/run"
)

// notifyFlag is --sdnotify, podman's name for what a service of type notify is
// told: "conmon" that it has started when the container runs, "healthy" when that
// is healthy, "container" when the container says so itself. "ignore", or "", tells
// nothing: a container may be started by another service's script.
type notifyFlag string

func (f *notifyFlag) declare(fs *pflag.FlagSet) {
	fs.Var(f, "sdnotify", "Tell systemd that the container has started `WHEN` conmon (it runs), healthy, or container (it says so); default ignore")
}

// String, Set and Type make f a pflag.Value.
func (f *notifyFlag) String() string { return string(*f) }

// Type is a word for the flag's kind.
func (f *notifyFlag) Type() string { return "string" }

// Set checks a value.
func (f *notifyFlag) Set(value string) error {
	if !slices.Contains([]string{"ignore", "conmon", "healthy", "container"}, value) {
		return errors.New("want conmon, healthy, container or ignore")
	}
	*f = notifyFlag(value)
	return nil
}

// notifySocket is where a container finds systemd's socket.
const notifySocket = "/run/notify/notify.sock"

// socket is systemd's, "" if nothing is to be told.
func (f notifyFlag) socket(e *Env) string {
	if f == "" || f == "ignore" {
		return ""
	}
	socket, _ := e.LookupEnv("NOTIFY_SOCKET")
	return socket
}

// start starts a container that this process leaves behind, as a part of this
// process's service if it has one: then the container's output goes to the journal
// as well.
func (f notifyFlag) start(ctx context.Context, e *Env, c *run.Container) error {
	driver := c.Options().Log.Driver
	if driver == "passthrough" {
		return c.StartTo(ctx, e.Stdout, e.Stderr)
	}
	if f.socket(e) == "" {
		return c.Start(ctx)
	}
	if err := run.DivideCgroup(); err != nil {
		return err
	}
	if driver == "none" {
		return c.Start(ctx)
	}
	return c.StartTo(ctx, e.journal(e.Stdout), e.journal(e.Stderr))
}

// journal returns f if it is a stream to systemd's journal, else nil: see
// $JOURNAL_STREAM in systemd.exec(5).
func (e *Env) journal(f *os.File) *os.File {
	var st unix.Stat_t
	stream, _ := e.LookupEnv("JOURNAL_STREAM")
	if stream == "" || unix.Fstat(int(f.Fd()), &st) != nil || stream != fmt.Sprintf("%d:%d", st.Dev, st.Ino) {
		return nil
	}
	return f
}

// apply lets the container speak to systemd itself, if that is asked for.
func (f notifyFlag) apply(e *Env, c *run.Config) error {
	socket := f.socket(e)
	if socket == "" || f != "container" {
		return nil
	}
	if !strings.HasPrefix(socket, "/") {
		return fmt.Errorf("--sdnotify=container: the socket %s is none that can be mounted: use --sdnotify=conmon", socket)
	}
	c.Mounts = append(c.Mounts, specs.Mount{Type: "bind", Source: socket, Destination: notifySocket, Options: []string{"bind"}})
	c.Env = append(c.Env, "NOTIFY_SOCKET="+notifySocket)
	return nil
}

// tell tells systemd that the main process is the container's monitor, and when
// the service has started. The container runs.
func (f notifyFlag) tell(ctx context.Context, e *Env, c *run.Container) error {
	socket := f.socket(e)
	if socket == "" {
		return nil
	}
	st, err := c.State()
	if err != nil {
		return err
	}
	if st.MonitorPID == 0 {
		return fmt.Errorf("container %s has ended with exit code %d before systemd could be told that it runs", c.Name(), st.ExitCode)
	}
	message := fmt.Sprintf("MAINPID=%d", st.MonitorPID)
	switch f {
	case "conmon":
		message += "\nREADY=1"
	case "healthy":
		if err := notify(socket, message); err != nil {
			return err
		}
		if c.Options().Health == nil {
			return fmt.Errorf("--sdnotify=healthy: container %s has no health check", c.Name())
		}
		if err := e.awaitHealth(ctx, c, 0); err != nil {
			return err
		}
		message = "READY=1"
	}
	return notify(socket, message)
}

// notify sends a message to systemd, see sd_notify(3).
func notify(socket, message string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(message)); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}
