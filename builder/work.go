package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"cooper/dockerfile"
	"cooper/layers"
)

// work returns what executes a step that makes a layer.
func (s *stage) work(v *vertex, st *dockerfile.Step) (work, error) {
	switch op := st.Op.(type) {
	case *dockerfile.Run:
		return &runWork{bd: s.build, op: op, another: s.runsAfter(st), fresh: s.noCache()}, nil
	case *dockerfile.Copy:
		return &copyWork{bd: s.build, op: op, v: v}, nil
	case *dockerfile.Workdir:
		return &workdirWork{bd: s.build, op: op}, nil
	}
	return nil, fmt.Errorf("step %T is not supported", st.Op)
}

// runsAfter reports whether a RUN that needs nothing special follows st in the stage.
func (s *stage) runsAfter(st *dockerfile.Step) bool {
	at := slices.IndexFunc(s.spec.Steps, func(other dockerfile.Step) bool { return other.Op == st.Op })
	return slices.ContainsFunc(s.spec.Steps[at+1:], func(later dockerfile.Step) bool {
		op, ok := later.Op.(*dockerfile.Run)
		return ok && len(op.Mounts) == 0 && len(op.Devices) == 0
	})
}

// workdirWork is a WORKDIR: it makes the directory.
type workdirWork struct {
	bd *build
	op *dockerfile.Workdir
}

func (w *workdirWork) lazy() bool { return false }

func (w *workdirWork) inputs(context.Context) (digest.Digest, error) { return "", nil }

// do makes the directory and its parents with the stage's user as owner; one
// that is there is left as it is.
func (w *workdirWork) do(ctx context.Context, _ *vertex, sn *layers.Snapshot) (digest.Digest, error) {
	view, err := sn.View()
	if err != nil {
		return "", err
	}
	defer view.Close()
	dir, err := view.Resolve(clean(w.op.Path))
	if err != nil {
		return "", fmt.Errorf("WORKDIR %s: %w", w.op.Path, err)
	}
	info, err := view.Lstat(dir)
	if err == nil && info.Mode&unix.S_IFMT == unix.S_IFDIR {
		return "", nil
	}
	if err == nil || errors.Is(err, unix.ENOTDIR) {
		return "", fmt.Errorf("WORKDIR %s: not a directory", w.op.Path)
	}
	if !missing(err) {
		return "", err
	}
	var o owner
	if w.op.User != "" {
		if o, _, err = lookupOwner(view, w.op.User); err != nil {
			return "", err
		}
	}
	now := w.bd.now()
	return "", sn.Write(ctx, []layers.Entry{{
		Path: path.Clean(dir), Mode: unix.S_IFDIR | 0o755, UID: o.uid, GID: o.gid, ModTime: now,
	}}, layers.WriteOptions{DirMode: 0o755, DirUID: o.uid, DirGID: o.gid, DirTime: now})
}

// stepError says where in the Dockerfile err happened. What cancelled the
// build from outside, and what another stage has reported, stays as it is.
func (s *stage) stepError(ctx context.Context, st *dockerfile.Step, err error) error {
	var se *StepError
	if errors.As(err, &se) || ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return err
	}
	e := &StepError{
		File: s.o.DockerfileName, Source: s.o.Dockerfile, Location: st.Location, Step: cmp.Or(st.Name, st.Text), Err: err,
	}
	var ce *commandError
	if errors.As(err, &ce) {
		e.Err, e.ExitCode, e.OOMKilled, e.Tail = nil, ce.status.ExitCode, ce.status.OOMKilled, ce.tail
	}
	if op, ok := st.Op.(*dockerfile.Run); ok {
		e.Command = op.Args
	}
	return e
}
