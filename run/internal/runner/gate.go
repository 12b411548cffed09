package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

// A gate is where a container's first process waits, in its namespaces and cgroups
// and with the Go runtime started, for its root file system and standard streams.
// What comes before it depends on neither: it is done while the root file system is
// mounted, or ahead of time (see type spare).
//
// The process has one end of a socket at descriptor stageStdio. One message comes:
// where to attach the root file system, with a mount that is attached nowhere yet
// and the streams as files. End-of-file means that it is not needed. The only
// answer is an error's text.
type gate struct{ ours, theirs *os.File }

// maxPath is the longest message.
const maxPath = unix.PathMax

func newGate() (*gate, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	return &gate{os.NewFile(uintptr(fds[0]), "gate"), os.NewFile(uintptr(fds[1]), "gate")}, nil
}

// open lets the process go on with what is mounted at root, in that same place.
func (g *gate) open(root string, streams []*os.File) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, root, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(tree)
	fds := []int{tree}
	for _, f := range streams {
		fds = append(fds, int(f.Fd()))
	}
	err = unix.Sendmsg(int(g.ours.Fd()), []byte(root), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
	return os.NewSyscallError("sendmsg", err)
}

// refusal is what the process answered, if it did.
func (g *gate) refusal() error {
	text := make([]byte, maxPath)
	n, _, err := unix.Recvfrom(int(g.ours.Fd()), text, unix.MSG_DONTWAIT)
	if err != nil || n == 0 {
		return nil
	}
	return errors.New(string(bytes.ToValidUTF8(text[:n], nil)))
}

// close ends the process if it still waits.
func (g *gate) close() {
	g.ours.Close()
	g.theirs.Close()
}

// passGate waits in a container's first process until the gate is open.
func passGate() {
	const sock = stageStdio
	readAhead()
	if err := enterGate(sock); err != nil {
		_ = unix.Sendto(sock, []byte(err.Error()), unix.MSG_NOSIGNAL, nil) // nobody there: nobody to tell
		os.Exit(1)
	}
}

// readAhead decodes libcontainer's message to this process without taking it: the
// decoder then knows the types, which takes most of the time that it needs.
func readAhead() {
	fd, err := strconv.Atoi(os.Getenv("_LIBCONTAINER_INITPIPE"))
	if err != nil {
		return
	}
	b := make([]byte, 32<<10)
	n, _, err := unix.Recvfrom(fd, b, unix.MSG_PEEK)
	if err != nil {
		return
	}
	var message struct{ Config configs.Config }
	_ = json.Unmarshal(b[:n], &message) // libcontainer's own reading tells
}

func enterGate(sock int) error {
	path, oob := make([]byte, maxPath), make([]byte, unix.CmsgSpace(4*(1+maxStreams)))
	n, oobn, _, _, err := unix.Recvmsg(sock, path, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 {
		os.Exit(1) // not needed
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) != 1 {
		return fmt.Errorf("root file system: %d control messages: %w", len(msgs), err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) == 0 {
		return fmt.Errorf("root file system: %d files: %w", len(fds), err)
	}
	err = unix.MoveMount(fds[0], "", unix.AT_FDCWD, string(path[:n]), unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("attach root file system: %w", os.NewSyscallError("move_mount", err))
	}
	unix.Close(fds[0])
	for i, fd := range fds[1:] {
		if err := unix.Dup3(fd, stageStdio+i, 0); err != nil {
			return os.NewSyscallError("dup3", err)
		}
		unix.Close(fd)
	}
	return nil
}
