// Package process is a user's network process: see package uplink.
//
// Packets that leave the namespace come to gVisor's network stack (a library here: no
// sandbox). It ends each connection and each flow of datagrams that containers begin,
// and what they carry goes on from a socket of the machine. Nothing is configured:
// whatever address a packet is for, the stack answers in its place, if the machine's
// own connection succeeds. Connections into containers do not come this way, see
// network's proxy.
package process

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cooper/run/internal/network/uplink"
)

// idle is how long the process waits for the next user of the network. A process
// that was started for the users of another, which was killed, does not wait: no
// later command might find the user namespace that it is in.
const idle = 10 * time.Second

// Init turns this process into the network process, if it was executed as one, and
// does not return then.
func Init() {
	dir := os.Getenv(uplink.Env)
	if dir == "" {
		return
	}
	os.Unsetenv(uplink.Env)
	os.WriteFile("/proc/self/comm", []byte("cooper-network"), 0)
	if err := serve(dir); err != nil {
		fmt.Fprintf(os.Stderr, "network process: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// server is the state of the process.
type server struct {
	listener  *net.UnixListener
	lock      *os.File
	program   *os.File
	dir       *os.File
	namespace *os.File
	// idle is how long to wait for the next user.
	idle time.Duration

	mu    sync.Mutex
	users int
}

func serve(dir string) error {
	listener, err := net.FileListener(os.NewFile(uplink.ListenerFD, "listener"))
	if err != nil {
		return err
	}
	s := &server{
		listener: listener.(*net.UnixListener),
		lock:     os.NewFile(uplink.LockFD, "lock"),
		program:  os.NewFile(uplink.ProgramFD, "program"),
		idle:     idle,
	}
	if s.dir, err = os.Open(dir); err != nil {
		return s.refuse(err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	go func() {
		<-signals
		s.mu.Lock() // for ever
		if s.users == 0 {
			s.unlink()
		}
		os.Exit(0) // whoever uses the network sees that the process was killed
	}()
	if os.Getenv(uplink.EnvAdopt) != "" {
		s.namespace, s.idle = os.NewFile(uplink.NamespaceFD, "network namespace"), 0
	}
	l, err := s.connect()
	if err != nil {
		return s.refuse(err)
	}
	if _, err := newStack(l); err != nil {
		return s.refuse(err)
	}
	if err := leaveTree(dir); err != nil {
		return s.refuse(err)
	}
	s.loop()
	return nil
}

// connect makes the interface, and the namespace if it is not there.
func (s *server) connect() (l *link, err error) {
	if s.namespace == nil {
		s.namespace, l, err = newNamespace(openDevice)
		return l, err
	}
	return adoptNamespace(s.namespace, openDevice)
}

// refuse tells the process that has started this one why there will be no network.
func (s *server) refuse(reason error) error {
	s.listener.SetDeadline(time.Now().Add(idle))
	conn, err := s.listener.AcceptUnix()
	if err != nil {
		return errors.Join(reason, err)
	}
	defer conn.Close()
	return errors.Join(reason, uplink.Answer(conn, nil, nil, reason))
}

// leaveTree leaves the machine's directory tree for an empty one, so that no mount
// is kept by this process, and nothing can be opened in it.
func leaveTree(dir string) error {
	for _, step := range []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error {
			return unix.Mount("cooper", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=500,size=4k")
		},
		func() error { return unix.Chdir(dir) },
		func() error { return unix.PivotRoot(".", ".") },
		func() error { return unix.Unmount(".", unix.MNT_DETACH) },
		func() error { return unix.Chdir("/") },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("leave the directory tree: %w", err)
		}
	}
	return nil
}

// loop serves until nobody has used the network for a while.
func (s *server) loop() {
	s.listener.SetDeadline(time.Now().Add(idle))
	for {
		conn, err := s.listener.AcceptUnix()
		switch {
		case err == nil:
			s.join(conn)
		case !errors.Is(err, os.ErrDeadlineExceeded):
			time.Sleep(100 * time.Millisecond) // out of memory, say
		case s.end():
			return
		}
	}
}

// join makes a client a user until it closes the connection.
func (s *server) join(conn *net.UnixConn) {
	s.mu.Lock()
	s.users++
	s.listener.SetDeadline(time.Time{})
	s.mu.Unlock()
	go func() {
		if err := uplink.Answer(conn, s.namespace, s.program, nil); err == nil {
			conn.Read(make([]byte, 1)) // until it is closed
		}
		conn.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.users--; s.users == 0 {
			s.listener.SetDeadline(time.Now().Add(s.idle))
		}
	}()
}

// end reports whether the process may end, and takes its socket away then. Whoever
// starts a network process holds the lock; one that comes meanwhile is a user.
func (s *server) end() bool {
	s.mu.Lock()
	users := s.users
	s.mu.Unlock()
	if users > 0 {
		return false
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		s.listener.SetDeadline(time.Now().Add(s.idle))
		return false
	}
	s.listener.SetDeadline(time.Now().Add(10 * time.Millisecond))
	if conn, err := s.listener.AcceptUnix(); err == nil {
		s.join(conn)
		unix.Flock(int(s.lock.Fd()), unix.LOCK_UN)
		return false
	}
	s.unlink()
	return true
}

func (s *server) unlink() { unix.Unlinkat(int(s.dir.Fd()), uplink.SocketName, 0) }
