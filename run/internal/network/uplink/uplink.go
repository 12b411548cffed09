// Package uplink connects an ordinary user's containers with the outside.
//
// A user cannot attach a bridge to the machine's network. So the bridges of all of
// the user's containers are in a network namespace of their own, and one process,
// the user's network process (package process), holds that namespace and is its way
// out: it takes IP packets from an interface there and makes connections of its own
// in the machine's namespace instead. It is started with the first container that
// has a network (package launch) and ends some seconds after the last.
//
// Its only interface is a socket in the run directory. Whoever connects receives
// the namespace and uses the network until the connection is closed: nothing else
// is said, so that there is nothing to be left behind. Starting and ending happen
// under a lock on a file beside the socket.
//
// Who uses the network for long (a container's monitor) keeps the process alive: it
// receives the program with the namespace, and should the process be killed (as part
// of a systemd unit, say, which happened to start it) starts another one for the
// same namespace. Containers then miss their connections, but not their network.
package uplink

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Files in the run directory.
const (
	SocketName = "uplink.sock"
	LockName   = "uplink.lock"
)

// Environment of the network process: the run directory, and when it is for a
// namespace that there is already, that.
const (
	Env      = "_COOPER_UPLINK"
	EnvAdopt = "_COOPER_UPLINK_ADOPT"
)

// Descriptors of the network process. That of the namespace is there with EnvAdopt.
const (
	ListenerFD = 3 + iota
	LockFD
	ProgramFD
	NamespaceFD
)

// Interface is the interface towards the outside, MTU its largest packet in bytes.
// Segments that large never reach a wire: they end in the network process.
const (
	Interface = "uplink"
	MTU       = 65520
)

// Gateway is the other end of the interface, and what the machine is called by
// containers; Address is this end's. Both are of a range that no network may route.
var (
	Address  = netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, 1, 1}), 30)
	Gateway  = netip.AddrFrom4([4]byte{169, 254, 1, 2})
	Address6 = netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 'c', 2: 'o', 3: 'o', 4: 'p', 5: 'r', 15: 1}), 126)
	Gateway6 = netip.AddrFrom16([16]byte{0: 0xfd, 1: 'c', 2: 'o', 3: 'o', 4: 'p', 5: 'r', 15: 2})
)

// ErrNotRunning says that there is no network process.
var ErrNotRunning = errors.New("the network process does not run")

// Hold is the use of the network process, which goes on until every Hold is closed.
type Hold struct {
	// Namespace is the network namespace for bridges.
	Namespace *os.File
	// program is the process's.
	program *os.File

	mu     sync.Mutex
	conn   *net.UnixConn
	closed chan struct{}
	kept   sync.WaitGroup
}

// Join connects with the network process of a run directory. The error when there
// is none wraps ErrNotRunning.
func Join(runDir string) (*Hold, error) {
	dir, err := os.Open(runDir)
	if err != nil {
		return nil, notRunning(err)
	}
	defer dir.Close()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socketPath(dir), Net: "unix"})
	if err != nil {
		return nil, notRunning(err)
	}
	files, err := receive(conn)
	if err != nil {
		conn.Close()
		return nil, notRunning(err)
	}
	return &Hold{Namespace: files[0], program: files[1], conn: conn, closed: make(chan struct{})}, nil
}

// Listen makes the socket in a run directory. The caller holds the lock.
func Listen(runDir string) (*net.UnixListener, error) {
	dir, err := os.Open(runDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := os.Remove(filepath.Join(runDir, SocketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketPath(dir), Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// socketPath is short, however long the directory's path is: the kernel allows 107
// bytes.
func socketPath(dir *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), SocketName)
}

// notRunning says what an error of Join means. A process that is being killed lets
// others connect and then says nothing.
func notRunning(err error) error {
	for _, e := range []error{unix.ENOENT, unix.ECONNREFUSED, unix.ECONNRESET, io.ErrUnexpectedEOF} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrNotRunning, err)
		}
	}
	return fmt.Errorf("network process: %w", err)
}

// Answer tells a client what came of the network process: its namespace and program,
// or an error instead.
func Answer(conn *net.UnixConn, namespace, program *os.File, failure error) error {
	if failure != nil {
		_, err := conn.Write([]byte(failure.Error()))
		return err
	}
	_, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(int(namespace.Fd()), int(program.Fd())), nil)
	return err
}

// receive reads an Answer.
func receive(conn *net.UnixConn) (files [2]*os.File, err error) {
	b := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(4*len(files)))
	n, on, _, _, err := conn.ReadMsgUnix(b, oob)
	if err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return files, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:on])
	if err != nil {
		return files, os.NewSyscallError("recvmsg", err)
	}
	for i := range msgs {
		if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil && len(fds) == len(files) {
			for i, name := range []string{"network namespace", "network process"} {
				files[i] = os.NewFile(uintptr(fds[i]), name)
			}
			return files, nil
		}
	}
	return files, errors.New(string(b[:n]))
}

// Close ends the use.
func (h *Hold) Close() error {
	close(h.closed)
	h.mu.Lock()
	err := h.conn.Close()
	h.mu.Unlock()
	h.kept.Wait()
	return errors.Join(err, h.Namespace.Close(), h.program.Close())
}
