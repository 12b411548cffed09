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
package uplink

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Files in the run directory.
const (
	SocketName = "uplink.sock"
	LockName   = "uplink.lock"
)

// Environment and descriptors of the network process: the variable holds the run
// directory.
const (
	Env        = "_COOPER_UPLINK"
	ListenerFD = 3
	LockFD     = 4
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
	conn      *net.UnixConn
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
	ns, err := receive(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("network process: %w", err)
	}
	return &Hold{Namespace: ns, conn: conn}, nil
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

func notRunning(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	return err
}

// Answer tells a client what came of the network process: ns, or an error instead.
func Answer(conn *net.UnixConn, ns *os.File, failure error) error {
	if failure != nil {
		_, err := conn.Write([]byte(failure.Error()))
		return err
	}
	_, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(int(ns.Fd())), nil)
	return err
}

// receive reads an Answer.
func receive(conn *net.UnixConn) (*os.File, error) {
	b := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(4))
	n, on, _, _, err := conn.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:on])
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	for i := range msgs {
		if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil && len(fds) == 1 {
			return os.NewFile(uintptr(fds[0]), "network namespace"), nil
		}
	}
	return nil, errors.New(string(b[:n]))
}

// Close ends the use.
func (h *Hold) Close() error {
	return errors.Join(h.Namespace.Close(), h.conn.Close())
}
