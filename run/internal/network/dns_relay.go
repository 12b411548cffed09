package network

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// serverTimeout is how long one name server may take before the next one is
	// asked, and rounds how often all of them are.
	serverTimeout = 2 * time.Second
	rounds        = 2
	// avoided is how long a name server that did not answer is asked last.
	avoided = 30 * time.Second
)

// relay asks name servers outside, and hands messages on unchanged.
type relay struct {
	// servers returns the name servers, in order of preference.
	servers func() []netip.AddrPort

	mu     sync.Mutex
	failed map[netip.AddrPort]time.Time
}

// ask returns the answer to a query: the first server's that knows one, or else the
// first that came at all, or else that there was a failure.
func (r *relay) ask(ctx context.Context, network string, query []byte) []byte {
	var second []byte
	for range rounds {
		for _, server := range r.order() {
			answer, err := exchange(ctx, network, server, query)
			if ctx.Err() != nil {
				return nil
			}
			r.note(server, err == nil)
			if err != nil {
				continue
			}
			if !refuses(answer) {
				return answer
			}
			if second == nil {
				second = answer
			}
		}
		if second != nil {
			return second
		}
	}
	return failure(query)
}

// order returns the servers, those that failed lately last.
func (r *relay) order() []netip.AddrPort {
	all := slices.Clone(r.servers())
	r.mu.Lock()
	defer r.mu.Unlock()
	rank := func(a netip.AddrPort) int {
		if time.Since(r.failed[a]) < avoided {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b netip.AddrPort) int { return rank(a) - rank(b) })
	return all
}

// note remembers whether a server answered.
func (r *relay) note(server netip.AddrPort, answered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if answered {
		delete(r.failed, server)
		return
	}
	if r.failed == nil {
		r.failed = map[netip.AddrPort]time.Time{}
	}
	r.failed[server] = time.Now()
}

// exchange sends a query to one server and returns its answer.
func exchange(ctx context.Context, network string, server netip.AddrPort, query []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if network == "tcp" {
		if err := writeMessage(c, query); err != nil {
			return nil, err
		}
		answer, err := readMessage(c)
		if err == nil && !answers(answer, query) {
			err = errors.New("the answer is to another question")
		}
		return answer, err
	}
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	buffer := datagrams.Get().(*[datagramSize]byte)
	defer datagrams.Put(buffer)
	for {
		n, err := c.Read(buffer[:])
		if err != nil {
			return nil, err
		}
		if answers(buffer[:n], query) {
			return bytes.Clone(buffer[:n]), nil
		}
	}
}

// answers reports whether message is an answer to query: who guesses at ports must
// guess these too.
func answers(message, query []byte) bool {
	var p, q dnsmessage.Parser
	h, err := p.Start(message)
	asked, e := q.Start(query)
	if err != nil || e != nil || !h.Response || h.ID != asked.ID {
		return false
	}
	got, err := p.Question()
	if err != nil { // some servers leave it out when they refuse
		return errors.Is(err, dnsmessage.ErrSectionDone) && h.RCode != dnsmessage.RCodeSuccess
	}
	want, err := q.Question()
	return err == nil && got.Type == want.Type && got.Class == want.Class &&
		bytes.EqualFold(got.Name.Data[:got.Name.Length], want.Name.Data[:want.Name.Length])
}

// refuses reports whether an answer says that this server cannot answer.
func refuses(answer []byte) bool {
	var p dnsmessage.Parser
	h, err := p.Start(answer)
	return err != nil || h.RCode == dnsmessage.RCodeServerFailure || h.RCode == dnsmessage.RCodeRefused
}

// failure is the answer when nobody answered.
func failure(query []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return reply(h, nil, dnsmessage.RCodeServerFailure)
	}
	return reply(h, &q, dnsmessage.RCodeServerFailure)
}
