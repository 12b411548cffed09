package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// nameServerAddress is where containers find their name server, docker's choice too.
var nameServerAddress = netip.AddrFrom4([4]byte{127, 0, 0, 11})

const (
	// maxQueries is how many queries of one container are relayed at a time.
	// Further ones are dropped; who asks will ask again.
	maxQueries = 256
	// maxQuery is the size of the largest query by UDP in bytes.
	maxQuery = 4096
	// tcpIdle is how long a connection may be silent.
	tcpIdle = 10 * time.Second
)

// nameServer answers one container's queries. It listens in the container's network
// namespace and asks others from this process's own.
type nameServer struct {
	names *names
	relay *relay
	udp   *net.UDPConn
	tcp   *net.TCPListener

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	limit  chan struct{}

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil once closed
}

// newNameServer returns a name server that is to be opened, or closed.
func newNameServer(n *names, r *relay) *nameServer {
	s := &nameServer{names: n, relay: r, limit: make(chan struct{}, maxQueries), conns: map[net.Conn]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// open starts to serve in the network namespace of the calling thread.
func (s *nameServer) open() error {
	if err := s.listen(0); err != nil {
		return fmt.Errorf("name server: %w", err)
	}
	err := redirect(uint16(s.udp.LocalAddr().(*net.UDPAddr).Port), uint16(s.tcp.Addr().(*net.TCPAddr).Port))
	if err != nil { // no nft there: the container can do without that port itself
		s.udp.Close()
		s.tcp.Close()
		if e := s.listen(53); e != nil {
			return fmt.Errorf("name server: %w", errors.Join(err, e))
		}
	}
	s.wg.Go(s.serveUDP)
	s.wg.Go(s.serveTCP)
	return nil
}

// listen opens both sockets; port 0 means any.
func (s *nameServer) listen(port uint16) (err error) {
	at := netip.AddrPortFrom(nameServerAddress, port)
	if s.udp, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at)); err != nil {
		return err
	}
	s.tcp, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	return err
}

// Close stops serving and waits for what is under way.
func (s *nameServer) Close() error {
	s.cancel()
	if s.udp != nil {
		s.udp.Close()
	}
	if s.tcp != nil {
		s.tcp.Close()
	}
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

func (s *nameServer) serveUDP() {
	buffer := make([]byte, maxQuery)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP message about an earlier answer
		}
		answer, relayed := s.local(buffer[:n], true)
		if !relayed {
			if answer != nil {
				s.udp.WriteToUDPAddrPort(answer, from)
			}
			continue
		}
		select {
		case s.limit <- struct{}{}:
		default:
			continue
		}
		query := append([]byte(nil), buffer[:n]...)
		s.wg.Go(func() {
			defer func() { <-s.limit }()
			s.udp.WriteToUDPAddrPort(s.relay.ask(s.ctx, "udp", query), from)
		})
	}
}

func (s *nameServer) serveTCP() {
	for {
		c, err := s.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors, say: others may end
			continue
		}
		s.mu.Lock()
		refused := s.conns == nil || len(s.conns) >= maxQueries
		if !refused {
			s.conns[c] = struct{}{}
		}
		s.mu.Unlock()
		if refused {
			c.Close()
			continue
		}
		s.wg.Go(func() {
			s.serveConn(c)
			c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// serveConn answers the queries of one connection, one after the other.
func (s *nameServer) serveConn(c net.Conn) {
	for {
		c.SetDeadline(time.Now().Add(tcpIdle))
		query, err := readMessage(c)
		if err != nil {
			return
		}
		answer, relayed := s.local(query, false)
		if relayed {
			answer = s.relay.ask(s.ctx, "tcp", query)
			c.SetDeadline(time.Now().Add(tcpIdle))
		}
		if answer == nil || writeMessage(c, answer) != nil {
			return
		}
	}
}

// readMessage reads a message as it is sent by TCP, its length in front.
func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeMessage(w io.Writer, message []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...))
	return err
}
