package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// query makes a query; options are put into its OPT record (RFC 6891) if there are any.
func query(t *testing.T, name string, kind dnsmessage.Type, options ...byte) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 4711, RecursionDesired: true})
	must(t, b.StartQuestions())
	must(t, b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name + "."), Type: kind, Class: dnsmessage.ClassINET}))
	if len(options) > 0 {
		must(t, b.StartAdditionals())
		var h dnsmessage.ResourceHeader
		must(t, h.SetEDNS0(1232, dnsmessage.RCodeSuccess, true))
		must(t, b.OPTResource(h, dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 65001, Data: options}}}))
	}
	message, err := b.Finish()
	must(t, err)
	return message
}

// ask sends a query from namespace ns and returns what the answer says: a code if it
// is not success, and the records, sorted.
func ask(t *testing.T, ns *os.File, network string, message []byte) string {
	t.Helper()
	var answer []byte
	err := within(ns, func() (err error) {
		answer, err = exchange(context.Background(), network, netip.AddrPortFrom(nameServerAddress, 53), message)
		return err
	})
	if err != nil {
		return err.Error()
	}
	return describe(t, answer)
}

func describe(t *testing.T, answer []byte) string {
	t.Helper()
	var m dnsmessage.Message
	must(t, m.Unpack(answer))
	var all []string
	if m.RCode != dnsmessage.RCodeSuccess {
		all = append(all, m.RCode.String())
	}
	for _, r := range m.Answers {
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			all = append(all, netip.AddrFrom4(body.A).String())
		case *dnsmessage.AAAAResource:
			all = append(all, netip.AddrFrom16(body.AAAA).String())
		case *dnsmessage.PTRResource:
			all = append(all, body.PTR.String())
		default:
			all = append(all, r.Header.Type.String())
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// upstreamServer answers, as a name server outside would, what handle returns.
func upstreamServer(t *testing.T, address string, handle func(query []byte) []byte) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	must(t, err)
	u, err := net.ListenPacket("udp", address)
	must(t, err)
	t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if q, err := readMessage(c); err == nil {
				writeMessage(c, handle(q))
			}
			c.Close()
		}
	}()
	go func() {
		b := make([]byte, 65535)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			u.WriteTo(handle(b[:n]), from)
		}
	}()
}

// world9 answers every question with 9.9.9.9, but for those about nowhere.
func world9(query []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	if strings.HasPrefix(q.Name.String(), "nowhere") {
		return reply(h, &q, dnsmessage.RCodeNameError)
	}
	return replyAddresses(h, q, []netip.Addr{netip.MustParseAddr("9.9.9.9")})
}

func TestNames(t *testing.T) {
	dir := runDirectory(t)
	upstreamServer(t, "127.0.0.1:53", world9)
	internal := testNetwork(3)
	internal.Internal = true
	nameless := testNetwork(4)
	nameless.NoDNS = true
	six := testNetwork(5)
	six.Subnet6 = netip.MustParsePrefix("fd77::/64")
	six.Gateway6 = netip.MustParseAddr("fd77::1")

	start := func(name string, networks ...Network) *Sandbox {
		r := request(dir, name, networks...)
		r.DNS = []string{"127.0.0.1"}
		r.Hostname = "host-" + name
		for i := range r.Attachments {
			r.Attachments[i].Aliases = []string{"Alias-" + name, "db"}
		}
		return setup(t, r)
	}
	a, b, c := start("a", testNetwork(1)), start("b", testNetwork(1), testNetwork(2)), start("c", testNetwork(2))
	in, unnamed, d := start("in", internal), start("unnamed", nameless), start("d", six)
	start("e", internal, nameless)

	for _, test := range []struct {
		from *Sandbox
		name string
		kind dnsmessage.Type
		want string
	}{
		{a, "b", dnsmessage.TypeA, "10.77.1.3"},
		{a, "B", dnsmessage.TypeA, "10.77.1.3"},
		{a, "a", dnsmessage.TypeA, "10.77.1.2"},
		{a, "b.net1", dnsmessage.TypeA, "10.77.1.3"},
		{a, "alias-b", dnsmessage.TypeA, "10.77.1.3"},
		{a, "host-b", dnsmessage.TypeA, "10.77.1.3"},
		{a, b.lease.ID[:12], dnsmessage.TypeA, "10.77.1.3"},
		{a, "db", dnsmessage.TypeA, "10.77.1.2 10.77.1.3"},
		{b, "db", dnsmessage.TypeA, "10.77.1.2 10.77.1.3 10.77.2.2 10.77.2.3"},
		{a, "b", dnsmessage.TypeAAAA, ""},
		{a, "b", dnsmessage.TypeMX, ""},
		{a, "c", dnsmessage.TypeA, "9.9.9.9"},
		{c, "b", dnsmessage.TypeA, "10.77.2.2"},
		{a, "example.org", dnsmessage.TypeA, "9.9.9.9"},
		{a, "nowhere", dnsmessage.TypeA, "RCodeNameError"},
		{a, "3.1.77.10.in-addr.arpa", dnsmessage.TypePTR, "b.net1."},
		{a, "99.1.77.10.in-addr.arpa", dnsmessage.TypePTR, "RCodeNameError"},
		{a, "nowhere.8.in-addr.arpa", dnsmessage.TypePTR, "RCodeNameError"},
		{in, "e", dnsmessage.TypeA, "10.77.3.3"},
		{in, "example.org", dnsmessage.TypeA, "RCodeNameError"},
		{unnamed, "e", dnsmessage.TypeA, "9.9.9.9"},
		{d, "d", dnsmessage.TypeAAAA, "fd77::2"},
		{d, "d", dnsmessage.TypeALL, "10.77.5.2 fd77::2"},
		{d, "2." + strings.Repeat("0.", 15) + "0.0.0.0.0.0.0.0.0.0.0.0.7.7.d.f.ip6.arpa", dnsmessage.TypePTR, "d.net5."},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := ask(t, test.from.in.ns, network, query(t, test.name, test.kind)); got != test.want {
				t.Errorf("%s: %s %s by %s: %s; want %s", test.from.lease.Name, test.name, test.kind, network, got, test.want)
			}
		}
	}
	must(t, b.Close())
	if got := ask(t, a.in.ns, "udp", query(t, "b", dnsmessage.TypeA)); got != "9.9.9.9" {
		t.Errorf("b has ended, but its name is %s", got)
	}
}

// TestPort53IsTheContainers: a container may have a name server of its own.
func TestPort53IsTheContainers(t *testing.T) {
	s := setup(t, request(runDirectory(t), "a", testNetwork(1)))
	serve(t, s.in.ns, "a", "0.0.0.0:53")
	var u net.PacketConn
	must(t, within(s.in.ns, func() (err error) {
		u, err = net.ListenPacket("udp4", "0.0.0.0:53")
		return err
	}))
	defer u.Close()
	if got := ask(t, s.in.ns, "udp", query(t, "a", dnsmessage.TypeA)); got != "10.77.1.2" {
		t.Errorf("by udp: %s", got)
	}
	if got := ask(t, s.in.ns, "tcp", query(t, "a", dnsmessage.TypeA)); got != "10.77.1.2" {
		t.Errorf("by tcp: %s", got)
	}
	wantAnswer(t, s.in.ns, "127.0.0.1:53", "a 127.0.0.1")
}

func TestRelay(t *testing.T) {
	failing := func(query []byte) []byte { return failure(query) }
	echo := func(query []byte) []byte {
		answer := bytes.Clone(query)
		answer[2] |= 0x80 // a response
		return answer
	}
	silent := func([]byte) []byte { return nil }
	upstreamServer(t, "127.0.0.21:53", failing)
	upstreamServer(t, "127.0.0.22:53", echo)
	upstreamServer(t, "127.0.0.23:53", silent)
	servers := func(hosts ...string) *relay {
		var all []netip.AddrPort
		for _, h := range hosts {
			all = append(all, netip.AddrPortFrom(netip.MustParseAddr(h), 53))
		}
		return &relay{servers: func() []netip.AddrPort { return all }}
	}
	q := query(t, "example.org", dnsmessage.TypeA, 1, 2, 3)
	for _, test := range []struct {
		name  string
		relay *relay
		want  []byte
	}{
		{"all of a message is handed on", servers("127.0.0.22"), echo(q)},
		{"the next one is asked after a failure", servers("127.0.0.21", "127.0.0.22"), echo(q)},
		{"the next one is asked when nobody listens", servers("127.0.0.20", "127.0.0.22"), echo(q)},
		{"the next one is asked after silence", servers("127.0.0.23", "127.0.0.22"), echo(q)},
		{"a failure is handed on", servers("127.0.0.21"), failure(q)},
		{"nobody listens", servers("127.0.0.20"), failure(q)},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := test.relay.ask(t.Context(), network, q); !bytes.Equal(got, test.want) {
				t.Errorf("%s, by %s: %x; want %x", test.name, network, got, test.want)
			}
		}
	}
	r := servers("127.0.0.23", "127.0.0.22")
	r.ask(t.Context(), "udp", q)
	start := time.Now()
	r.ask(t.Context(), "udp", q)
	if d := time.Since(start); d > serverTimeout/2 {
		t.Errorf("a server that was silent just now was waited for again: %v", d)
	}
}

// TestStrangersAnswers: only what answers the question is taken.
func TestStrangersAnswers(t *testing.T) {
	q := query(t, "example.org", dnsmessage.TypeA)
	other := query(t, "example.com", dnsmessage.TypeA)
	id := bytes.Clone(q)
	id[0]++
	response := func(b []byte) []byte { return append([]byte{b[0], b[1], b[2] | 0x80}, b[3:]...) }
	for _, test := range []struct {
		name    string
		message []byte
		want    bool
	}{
		{"the answer", response(q), true},
		{"the query", q, false},
		{"another id", response(id), false},
		{"another question", response(other), false},
		{"upper case", response(bytes.Replace(q, []byte("example"), []byte("eXAMPLE"), 1)), true},
		{"nothing", nil, false},
	} {
		if got := answers(test.message, q); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// TestManyAnswers: what is too long by UDP is asked for again by TCP.
func TestManyAnswers(t *testing.T) {
	dir := runDirectory(t)
	var s *Sandbox
	n := testNetwork(5)
	n.Subnet6, n.Gateway6 = netip.MustParsePrefix("fd77::/64"), netip.MustParseAddr("fd77::1")
	for i := range 30 {
		r := request(dir, fmt.Sprint("c", i), n)
		r.Attachments[0].Aliases = []string{"all"}
		s = setup(t, r)
	}
	if got := strings.Fields(ask(t, s.in.ns, "udp", query(t, "all", dnsmessage.TypeA))); len(got) != maxAnswers {
		t.Errorf("%d answers by udp, want %d", len(got), maxAnswers)
	}
	if got := strings.Fields(ask(t, s.in.ns, "tcp", query(t, "all", dnsmessage.TypeAAAA))); len(got) != maxAnswers {
		t.Errorf("%d answers by tcp, want %d", len(got), maxAnswers)
	}
	var answer []byte
	must(t, within(s.in.ns, func() (err error) {
		answer, err = exchange(t.Context(), "udp", netip.AddrPortFrom(nameServerAddress, 53), query(t, "all", dnsmessage.TypeAAAA))
		return err
	}))
	var p dnsmessage.Parser
	if h, err := p.Start(answer); err != nil || !h.Truncated || len(answer) > plainUDP {
		t.Errorf("the answer of %d bytes is not cut: %+v, %v", len(answer), h, err)
	}
}

// FuzzLocal: whatever a container sends is answered or dropped.
func FuzzLocal(f *testing.F) {
	f.Add([]byte("\x12\x67\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01b\x00\x00\x01\x00\x01"), true)
	f.Add([]byte("\x12\x67\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x012\x011\x0277\x0210\x07in-addr\x04arpa\x00\x00\x0c\x00\x01"), false)
	n := testNetwork(1)
	own := &lease{ID: strings.Repeat("ab", 32), Name: "b", Places: []place{{Network: n, IP: offset(n.Subnet, 2), Aliases: []string{"x"}}}}
	dir := f.TempDir()
	d := runDir(dir)
	lock, err := d.lock()
	if err != nil {
		f.Fatal(err)
	}
	lock.Close()
	if err := d.write(own); err != nil {
		f.Fatal(err)
	}
	s := &nameServer{names: &names{dir: d, own: func() *lease { return own }}}
	f.Fuzz(func(t *testing.T, message []byte, udp bool) {
		answer, relayed := s.local(message, udp)
		if relayed && answer != nil {
			t.Error("answered and relayed")
		}
		if answer == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(answer); err != nil || !m.Response || udp && len(answer) > plainUDP {
			t.Errorf("answer %x (%d bytes): %v", answer, len(answer), errors.Join(err))
		}
	})
}
