package network

import (
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// nameTTL is how long others may remember a container's address, in
	// seconds; a restart can change it.
	nameTTL = 5
	// maxAnswers keeps answers within what every resolver takes by UDP.
	maxAnswers = 24
	// plainUDP is the size that an answer by UDP may have, in bytes, unless
	// the query says more (RFC 1035, 4.2.1).
	plainUDP = 512
)

// local answers a query about containers, or reports that it is about something else
// and is to be relayed. The answer is nil for what is no query.
func (s *nameServer) local(query []byte, udp bool) (answer []byte, relayed bool) {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil || header.Response {
		return nil, false
	}
	q, err := p.Question()
	if err != nil {
		return reply(header, nil, dnsmessage.RCodeFormatError), false
	}
	if q.Class == dnsmessage.ClassINET && header.OpCode == 0 {
		if answer := s.answer(header, q); answer != nil {
			if udp && len(answer) > plainUDP {
				answer = truncated(header, q)
			}
			return answer, false
		}
	}
	if !s.names.outward() {
		return reply(header, &q, dnsmessage.RCodeNameError), false
	}
	return nil, true
}

// answer answers what only we can know; nil means that it is not known.
func (s *nameServer) answer(header dnsmessage.Header, q dnsmessage.Question) []byte {
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	if q.Type == dnsmessage.TypePTR {
		a, ok := reverseAddress(name)
		if !ok {
			return nil
		}
		switch name, ours := s.names.reverse(a); {
		case name != "":
			return replyName(header, q, name)
		case ours:
			return reply(header, &q, dnsmessage.RCodeNameError)
		}
		return nil
	}
	addresses, known := s.names.lookup(name)
	if !known {
		return nil
	}
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	return replyAddresses(header, q, addresses)
}

// builder begins a reply to q, which may be nil.
func builder(header dnsmessage.Header, q *dnsmessage.Question, code dnsmessage.RCode) dnsmessage.Builder {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: header.ID, Response: true, OpCode: header.OpCode, RCode: code,
		RecursionDesired: header.RecursionDesired, RecursionAvailable: true,
	})
	b.EnableCompression()
	if q != nil {
		// Neither fails: the question was unpacked from a message.
		_ = b.StartQuestions()
		_ = b.Question(*q)
	}
	return b
}

// finish returns the message, or nil if it could not be made.
func finish(b dnsmessage.Builder) []byte {
	message, err := b.Finish()
	if err != nil {
		return nil
	}
	return message
}

// reply is an answer without records.
func reply(header dnsmessage.Header, q *dnsmessage.Question, code dnsmessage.RCode) []byte {
	return finish(builder(header, q, code))
}

// truncated says to ask again by TCP.
func truncated(header dnsmessage.Header, q dnsmessage.Question) []byte {
	message := reply(header, &q, dnsmessage.RCodeSuccess)
	const tc = 0x02
	message[2] |= tc
	return message
}

// replyAddresses answers with those addresses that the question is about. None is an
// answer too: the name exists.
func replyAddresses(header dnsmessage.Header, q dnsmessage.Question, addresses []netip.Addr) []byte {
	b := builder(header, &q, dnsmessage.RCodeSuccess)
	if b.StartAnswers() != nil {
		return nil
	}
	count := 0
	record := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: nameTTL}
	for _, a := range addresses {
		var err error
		switch {
		case count == maxAnswers:
		case a.Is4() && (q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeALL):
			count++
			err = b.AResource(record, dnsmessage.AResource{A: a.As4()})
		case a.Is6() && (q.Type == dnsmessage.TypeAAAA || q.Type == dnsmessage.TypeALL):
			count++
			err = b.AAAAResource(record, dnsmessage.AAAAResource{AAAA: a.As16()})
		}
		if err != nil {
			return nil
		}
	}
	return finish(b)
}

// replyName answers the question for an address's name.
func replyName(header dnsmessage.Header, q dnsmessage.Question, name string) []byte {
	b := builder(header, &q, dnsmessage.RCodeSuccess)
	full, err := dnsmessage.NewName(name + ".")
	if err != nil || b.StartAnswers() != nil {
		return nil
	}
	record := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: nameTTL}
	if b.PTRResource(record, dnsmessage.PTRResource{PTR: full}) != nil {
		return nil
	}
	return finish(b)
}

// reverseAddress is the address that a name below in-addr.arpa or ip6.arpa stands for.
func reverseAddress(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		var b [4]byte
		labels := strings.Split(rest, ".")
		for i, label := range labels {
			n, err := strconv.ParseUint(label, 10, 8)
			if err != nil || len(labels) != 4 {
				return netip.Addr{}, false
			}
			b[3-i] = byte(n)
		}
		return netip.AddrFrom4(b), true
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	labels := strings.Split(rest, ".")
	if !ok || len(labels) != 32 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i, label := range labels {
		n, err := strconv.ParseUint(label, 16, 4)
		if err != nil {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(n) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b), true
}
