package runner

import (
	"fmt"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/utils"
	"golang.org/x/sys/unix"
)

// connectConsole gives p a terminal, whose other end goes to take as soon as the
// container has made it. The returned func waits for that and must be called after
// the start.
func connectConsole(p *libcontainer.Process, take func(master *os.File)) (wait func(), err error) {
	ours, theirs, err := utils.NewSockPair("console")
	if err != nil {
		return nil, err
	}
	p.ConsoleSocket = theirs
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer ours.Close()
		master, err := recvFile(ours)
		if err != nil {
			return // the container did not get that far
		}
		take(master)
	}()
	return func() {
		theirs.Close()
		<-done
	}, nil
}

// recvFile reads one file from a socket.
func recvFile(sock *os.File) (*os.File, error) {
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(sock.Fd()), name, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return nil, fmt.Errorf("console: %d control messages: %w", len(msgs), err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("console: %d files: %w", len(fds), err)
	}
	return os.NewFile(uintptr(fds[0]), "console"), nil
}
