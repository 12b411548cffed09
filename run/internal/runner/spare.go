package runner

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"path"
	"reflect"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"cooper/run/internal/wire"
)

// spare is a container made for a request like a former one, with its first process
// on the way to its gate: half of a RUN step's start, done while the step before it
// is at work.
type spare struct {
	like *wire.Run
	made chan struct{} // closed when l is there, or nil for ever
	l    *library
}

// get waits for the spare to be made, and returns nil if it could not be.
func (s *spare) get() *library {
	<-s.made
	return s.l
}

// maxSpares is for steps that run side by side.
const maxSpares = 4

// addSpare makes a container for a request like req in the background. Errors only
// mean that nothing was gained: the next request tells them if they persist.
func (r *runner) addSpare(req *wire.Run) {
	if !spareable(req) {
		return
	}
	s := &spare{like: likeRun(req), made: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || len(r.spares) == maxSpares {
		return
	}
	r.spares = append(r.spares, s)
	r.wg.Go(func() {
		l, err := r.makeSpare(s.like)
		if err != nil {
			close(s.made)
			return
		}
		r.conn.Send(wire.KindSpare, wire.Event{Cgroups: l.cgroups()})
		s.l = l
		close(s.made)
		l.launched <- l.run(l.first, terminal{})
	})
}

func (r *runner) makeSpare(like *wire.Run) (*library, error) {
	b, err := r.newBundle(like, nil, nil)
	if err != nil {
		return nil, err
	}
	l, err := r.newLibrary(b)
	if err != nil {
		err = errors.Join(err, b.remove())
		b.cleanUp()
		return nil, err
	}
	l.launched = make(chan error, 1)
	return l, nil
}

// takeSpare returns a spare that serves req and is nobody else's, or nil.
func (r *runner) takeSpare(req *wire.Run) *spare {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.spares, func(s *spare) bool { return alike(s.like, req) })
	if i < 0 {
		return nil
	}
	s := r.spares[i]
	r.spares = slices.Delete(r.spares, i, i+1)
	return s
}

// dropSpares ends those that nobody took, and allows no more.
func (r *runner) dropSpares() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	for _, s := range r.spares {
		r.wg.Go(func() {
			l := s.get()
			if l == nil {
				return
			}
			l.first.gate.ours.Close() // it ends there
			<-l.launched
			if err := errors.Join(l.destroy(), l.b.remove()); err != nil {
				logrus.Warn(err)
			}
			l.b.cleanUp()
		})
	}
	r.spares = nil
}

// spareable reports whether a container like req's can be made without req.
func spareable(req *wire.Run) bool {
	joins := func(n specs.LinuxNamespace) bool { return n.Path != "" }
	return req.Command == nil && req.Stage.Chroot == nil && len(req.Trees) == 0 &&
		!req.Spec.Process.Terminal && !slices.ContainsFunc(req.Spec.Linux.Namespaces, joins)
}

// likeRun is what a container like req's is made from.
func likeRun(req *wire.Run) *wire.Run {
	var b [32]byte
	rand.Read(b[:])
	like := &wire.Run{
		ID: hex.EncodeToString(b[:]), Spec: ownSpec(req.Spec), Files: req.Files,
		RootlessCgroups: req.RootlessCgroups, NoCgroup: req.NoCgroup, NoKeyring: req.NoKeyring, NoPivot: req.NoPivot,
	}
	if p := like.Spec.Linux.CgroupsPath; p != "" {
		like.Spec.Linux.CgroupsPath = path.Join(path.Dir(p), "cooper-"+like.ID)
	}
	return like
}

// alike reports whether a container made for a serves b. What the gate and the
// last stage bring may differ, and the name.
func alike(a, b *wire.Run) bool {
	if !spareable(b) || a.RootlessCgroups != b.RootlessCgroups || a.NoCgroup != b.NoCgroup ||
		path.Dir(a.Spec.Linux.CgroupsPath) != path.Dir(b.Spec.Linux.CgroupsPath) {
		return false
	}
	spec := ownSpec(b.Spec)
	spec.Linux.CgroupsPath = a.Spec.Linux.CgroupsPath
	return reflect.DeepEqual(a.Files, b.Files) && reflect.DeepEqual(a.Spec, spec)
}
