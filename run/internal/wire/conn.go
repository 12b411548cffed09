// Package wire is how a Runtime and its runner talk: messages over a stream
// socket, each a JSON body with open files beside it.
//
// A message is a header of 12 bytes (kind, body length and number of files, each
// a big-endian uint32), then for every maxFiles files or part thereof one zero
// byte that carries them as SCM_RIGHTS, then the body. A stream, unlike
// SOCK_SEQPACKET, puts no limit on the body: a specification with a large
// environment or a thousand mounts goes through.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	headerSize = 12
	// maxFiles is below the kernel's SCM_MAX_FD (253).
	maxFiles = 200
	// maxBody bounds what a confused peer can make us allocate.
	maxBody = 64 << 20
)

// Conn is one end of the socket. Send may be called concurrently, Recv may not.
type Conn struct {
	uc     *net.UnixConn
	sendMu sync.Mutex
}

// Pair returns a connection for this process and the file to give to the other,
// which the caller closes once that runs.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "runner socket")
	ours, err := NewConn(os.NewFile(uintptr(fds[0]), "runtime socket"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// NewConn makes a connection of a socket and takes the file over.
func NewConn(f *os.File) (*Conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("runner socket: %w", err)
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("runner socket: is a %T", c)
	}
	return &Conn{uc: uc}, nil
}

// Wrap makes a connection of a socket that is open already.
func Wrap(uc *net.UnixConn) *Conn { return &Conn{uc: uc} }

// Close closes the socket; the other end's Recv returns io.EOF.
func (c *Conn) Close() error { return c.uc.Close() }

// Message is a received message. Whoever receives it owns Files.
type Message struct {
	Kind  Kind
	Body  []byte
	Files []*os.File
}

// Decode reads the body into v.
func (m *Message) Decode(v any) error {
	if err := json.Unmarshal(m.Body, v); err != nil {
		return fmt.Errorf("runner message %d: %w", m.Kind, err)
	}
	return nil
}

// Close closes the files that came with the message.
func (m *Message) Close() {
	for _, f := range m.Files {
		f.Close()
	}
	m.Files = nil
}

// Send writes one message. The files stay the caller's.
func (c *Conn) Send(k Kind, body any, files ...*os.File) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("runner message %d: %w", k, err)
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	out := make([]byte, 0, headerSize+len(b))
	out = binary.BigEndian.AppendUint32(out, uint32(k))
	out = binary.BigEndian.AppendUint32(out, uint32(len(b)))
	out = binary.BigEndian.AppendUint32(out, uint32(len(fds)))

	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	if len(fds) > 0 {
		if _, err := c.uc.Write(out); err != nil {
			return err
		}
		out = out[:0]
	}
	for len(fds) > 0 {
		n := min(len(fds), maxFiles)
		if _, _, err := c.uc.WriteMsgUnix([]byte{0}, unix.UnixRights(fds[:n]...), nil); err != nil {
			return fmt.Errorf("send files: %w", err)
		}
		fds = fds[n:]
	}
	_, err = c.uc.Write(append(out, b...))
	return err
}

// Recv reads the next message, or io.EOF when the other end is gone.
func (c *Conn) Recv() (*Message, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(c.uc, h[:]); err != nil {
		return nil, err
	}
	m := &Message{Kind: Kind(binary.BigEndian.Uint32(h[0:]))}
	size, files := binary.BigEndian.Uint32(h[4:]), int(binary.BigEndian.Uint32(h[8:]))
	if size > maxBody {
		return nil, fmt.Errorf("runner message of %d bytes", size)
	}
	for len(m.Files) < files {
		fs, err := c.recvFiles()
		m.Files = append(m.Files, fs...)
		if err != nil {
			m.Close()
			return nil, err
		}
	}
	m.Body = make([]byte, size)
	if _, err := io.ReadFull(c.uc, m.Body); err != nil {
		m.Close()
		return nil, noEOF(err)
	}
	return m, nil
}

// recvFiles reads one byte and the files that came with it. Package net marks
// them close-on-exec.
func (c *Conn) recvFiles() ([]*os.File, error) {
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, on, flags, _, err := c.uc.ReadMsgUnix(b[:], oob)
	if err != nil {
		return nil, noEOF(err)
	}
	if n == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:on])
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	var out []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // not files
		}
		for _, fd := range fds {
			out = append(out, os.NewFile(uintptr(fd), "received file"))
		}
	}
	if flags&unix.MSG_CTRUNC != 0 || len(out) == 0 {
		return out, fmt.Errorf("receive files: lost some (open file limit?)")
	}
	return out, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
