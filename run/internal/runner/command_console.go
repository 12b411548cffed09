package runner

import (
	"errors"
	"net"
	"os"
	"strconv"
	"time"

	"cooper/run/internal/life"
)

// consoleTime is how long a runtime that has made a terminal may take to send it.
const consoleTime = 5 * time.Second

// consoleSocket is where a runtime sends the other end of a terminal.
type consoleSocket struct {
	path string // for the runtime
	name string // in this process
	l    *net.UnixListener
}

// listenConsole makes a socket in the command's directory. The directory's own path
// may be longer than a socket's address, its descriptor's is not.
func (e *command) listenConsole() (*consoleSocket, error) {
	name := "tty" + strconv.FormatInt(e.calls.Add(1), 10)
	s := &consoleSocket{path: ownPath(e.dir) + "/" + name, name: life.FilePath(e.dir, name)}
	var err error
	if s.l, err = net.ListenUnix("unix", &net.UnixAddr{Name: s.name, Net: "unix"}); err != nil {
		return nil, err
	}
	s.l.SetUnlinkOnClose(false) // by that path it would come too late
	return s, nil
}

// hand gives the terminal to take, if the runtime has made one, and closes the socket.
func (s *consoleSocket) hand(made bool, take func(master *os.File)) error {
	defer os.Remove(s.name)
	defer s.l.Close()
	if !made {
		return nil
	}
	s.l.SetDeadline(time.Now().Add(consoleTime))
	conn, err := s.l.AcceptUnix()
	if err != nil {
		return errors.New("the runtime has not sent the terminal that it made")
	}
	defer conn.Close()
	f, err := conn.File()
	if err != nil {
		return err
	}
	defer f.Close()
	master, err := recvFile(f)
	if err != nil {
		return err
	}
	take(master)
	return nil
}
