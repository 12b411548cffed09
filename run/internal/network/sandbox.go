package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Sandbox is a container's network namespace. Its methods may be called
// concurrently.
type Sandbox struct {
	request Request
	dir     runDir
	// own is the lock of the lease.
	own   *os.File
	in    *inside
	out   outside
	names *nameServer
	// change is held by what changes the lease after Setup.
	change sync.Mutex
	// published is where the ports lead.
	published target

	mu       sync.Mutex
	lease    *lease
	warnings []string
}

// Setup makes the network namespace that r asks for, connected and with its ports
// published. The caller closes the Sandbox when the container has ended. The name
// server of the container runs in this process until then, and so do the listeners
// that keep the host's ports.
//
// The error about a host port that is taken wraps ErrPortInUse. After an error
// nothing is left but bridges that nobody uses: see Leave.
func Setup(ctx context.Context, r Request) (*Sandbox, error) {
	s := &Sandbox{request: r, dir: runDir(r.RunDir), lease: &lease{ID: r.ID, Name: r.Name, Hostname: r.Hostname, Rootless: r.Rootless}}
	if err := s.setup(ctx); err != nil {
		err = errors.Join(err, s.Close())
		for _, missing := range []error{unix.EPERM, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT} {
			if errors.Is(err, missing) {
				return nil, fmt.Errorf("container network: %w: networks cannot be made here; --network host and none can be had", err)
			}
		}
		return nil, fmt.Errorf("container network: %w", err)
	}
	return s, nil
}

// setup makes the namespace and what it is connected to side by side.
func (s *Sandbox) setup(ctx context.Context) error {
	made := make(chan error, 1)
	go func() { made <- s.makeInside() }()
	var g *ground
	var bridges []bridge
	err := context.Cause(ctx)
	if err == nil && len(s.request.Attachments) > 0 {
		g, bridges, err = s.connectable()
	}
	if g != nil {
		defer g.Close()
	}
	if err := errors.Join(err, <-made); err != nil {
		return err
	}
	for i := range bridges {
		if err := s.in.plug(g, bridges[i], &s.lease.Places[i]); err != nil {
			return err
		}
	}
	if err := s.routeOut(); err != nil {
		return err
	}
	if publishesSCTP(s.request.Ports) {
		if err := s.lockAndReserve(); err != nil {
			return err
		}
	}
	return s.publish(ctx)
}

// makeInside makes the namespace with its name server.
func (s *Sandbox) makeInside() (err error) {
	also := func() error { return nil }
	if len(s.request.Attachments) > 0 {
		s.names = newNameServer(&names{dir: s.dir, own: s.leased}, &relay{servers: upstream(&s.request)})
		also = s.names.open
	}
	s.in, err = newInside(s.request.Namespace, also)
	return err
}

// open opens the outside, and takes the locks of the lease and the directory. The
// caller closes g and the directory's lock.
func (s *Sandbox) open() (g *ground, lock *os.File, err error) {
	if s.out == nil {
		if s.out, err = openOutside(&s.request); err != nil {
			return nil, nil, err
		}
	}
	if g, err = openGround(s.out.Namespace()); err != nil {
		return nil, nil, err
	}
	if lock, err = s.dir.lock(); err != nil {
		return nil, nil, errors.Join(err, g.Close())
	}
	if s.own == nil {
		s.own, err = lockedFile(s.dir.lockFile(s.request.ID), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("network lease: %w", err), lock.Close(), g.Close())
	}
	return g, lock, nil
}

// connectable has a lease and bridges for all attachments.
func (s *Sandbox) connectable() (g *ground, all []bridge, err error) {
	g, lock, err := s.open()
	if err != nil {
		return nil, nil, err
	}
	defer lock.Close()
	for _, a := range s.request.Attachments {
		b, err := s.join(g, a)
		if err != nil {
			return g, nil, err
		}
		all = append(all, b)
	}
	return g, all, nil
}

// join leases a place on a network and makes the network's bridge. The directory's
// lock is held.
func (s *Sandbox) join(g *ground, a Attachment) (bridge, error) {
	others, err := s.dir.reclaim(g, s.lease.ID)
	if err != nil {
		return nil, err
	}
	p, err := choose(a, others, s.lease.Places)
	if err != nil {
		return nil, err
	}
	l := *s.leased()
	l.Places = append(slices.Clone(l.Places), p)
	if err := s.keep(&l); err != nil {
		return nil, err
	}
	if err := s.dir.keepDefault(&p.Network); err != nil {
		return nil, err
	}
	b, warnings, err := g.prepare(&p.Network, append(others, &l))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warnings = append(s.warnings, warnings...)
	return b, err
}

// routeOut makes the first network that has a way out the default route.
func (s *Sandbox) routeOut() error {
	for i := range s.lease.Places {
		if p := &s.lease.Places[i]; !p.Network.Internal {
			return s.in.route(p)
		}
	}
	return nil
}

// publish publishes the ports that were asked for, and writes down which.
func (s *Sandbox) publish(ctx context.Context) error {
	if len(s.request.Ports) == 0 || s.out == nil {
		return nil
	}
	ports, err := s.out.Publish(ctx, s.request.Ports, s.lease.target(), s.near)
	if err != nil {
		return err
	}
	l := *s.leased()
	s.published, l.Ports = l.target(), ports
	return s.keep(&l)
}

// near reports whether the container does not send packets for a to its gateway.
func (s *Sandbox) near(a netip.Addr) bool {
	outward := false
	for _, p := range s.leased().Places {
		if p.Network.Subnet.Contains(a) || p.Network.Subnet6.Contains(a) {
			return true
		}
		outward = outward || !p.Network.Internal
	}
	return !outward
}

// Path is the namespace's path for other processes, as long as this one lives and
// the Sandbox is not closed.
func (s *Sandbox) Path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.in.ns.Fd())
}

// Result says which addresses and ports the container has.
func (s *Sandbox) Result() Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Result{Networks: map[string]Status{}, Ports: s.lease.Ports, Warnings: s.warnings}
	for i := range s.lease.Places {
		p := &s.lease.Places[i]
		r.Networks[p.Network.Name] = p.status()
		if !r.HostGateway.IsValid() && !p.Network.Internal {
			r.HostGateway = s.out.HostGateway(p.Network.Gateway)
		}
	}
	if len(s.lease.Places) > 0 {
		r.Nameservers = []string{nameServerAddress.String()}
		r.Search, r.Options = resolver(&s.request)
	}
	return r
}

// Connect puts the running container on one more network.
func (s *Sandbox) Connect(ctx context.Context, a Attachment) (err error) {
	s.change.Lock()
	defer s.change.Unlock()
	if slices.ContainsFunc(s.places(), func(p place) bool { return p.Network.ID == a.Network.ID }) {
		return fmt.Errorf("container is on network %s already", a.Network.Name)
	}
	g, lock, err := s.open()
	if err != nil {
		return err
	}
	defer g.Close()
	defer lock.Close()
	before := s.places()
	b, err := s.join(g, a)
	if err == nil {
		places := s.places()
		err = s.in.plug(g, b, &places[len(places)-1])
	}
	if err != nil {
		return errors.Join(err, s.leave(before))
	}
	return s.redirect(ctx)
}

// Disconnect takes the container off the network of that name. Published ports that
// led to it lead to another of the container's networks then.
func (s *Sandbox) Disconnect(ctx context.Context, name string) error {
	s.change.Lock()
	defer s.change.Unlock()
	places := s.places()
	i := slices.IndexFunc(places, func(p place) bool { return p.Network.Name == name })
	if i < 0 {
		return fmt.Errorf("container is not on network %s", name)
	}
	g, lock, err := s.open()
	if err != nil {
		return err
	}
	defer g.Close()
	defer lock.Close()
	if err := g.unplug(places[i].Link); err != nil {
		return err
	}
	if err := s.leave(slices.Delete(places, i, i+1)); err != nil {
		return err
	}
	return s.redirect(ctx)
}

// redirect has the default route and the published ports follow a change of networks.
func (s *Sandbox) redirect(ctx context.Context) error {
	if err := s.routeOut(); err != nil || len(s.request.Ports) == 0 || s.lease.target() == s.published {
		return err
	}
	if len(s.lease.Ports) > 0 {
		s.request.Ports = s.lease.Ports // the same host ports again
	} else if err := s.reserve(); err != nil {
		return err
	}
	s.published = target{}
	if err := s.out.Withdraw(); err != nil || len(s.lease.Places) == 0 {
		return err
	}
	return s.publish(ctx)
}

// Mend makes again what others have removed since Setup: bridges, and rules of the
// firewall.
func (s *Sandbox) Mend() error {
	s.change.Lock()
	defer s.change.Unlock()
	places := s.places()
	if len(places) == 0 {
		return nil
	}
	g, lock, err := s.open()
	if err != nil {
		return err
	}
	defer g.Close()
	defer lock.Close()
	others, err := s.dir.reclaim(g, s.lease.ID)
	if err != nil {
		return err
	}
	for i := range places {
		b, _, err := g.prepare(&places[i].Network, append(others, s.leased()))
		if err == nil {
			err = g.attach(b, &places[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// leased returns the container's lease, which is not changed any more.
func (s *Sandbox) leased() *lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease
}

// places returns a copy of the container's places.
func (s *Sandbox) places() []place {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lease.Places)
}

// Rename has others find the container by another name.
func (s *Sandbox) Rename(name string) error {
	s.change.Lock()
	defer s.change.Unlock()
	l := *s.leased()
	l.Name = name
	return s.keep(&l)
}

// keep makes l the lease. Without a place on a network none is written.
func (s *Sandbox) keep(l *lease) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = l
	if s.own == nil {
		return nil
	}
	return s.dir.write(l)
}

// leave writes down that the container has only these places.
func (s *Sandbox) leave(places []place) error {
	l := *s.leased()
	l.Places = places
	return s.keep(&l)
}

// Close takes back what Setup and Connect made for this container alone; its
// interfaces end with the namespace. Bridges stay for the next container: see Leave
// and Linger.
func (s *Sandbox) Close() error {
	var errs []error
	if s.names != nil {
		errs = append(errs, s.names.Close())
	}
	if s.out != nil {
		errs = append(errs, s.out.Close())
	}
	if s.in != nil {
		errs = append(errs, s.in.Close())
	}
	if s.own != nil {
		errs = append(errs, s.dir.forget(s.lease.ID), s.own.Close())
	}
	return errors.Join(errs...)
}
