package builder

import (
	"context"
	"sync"
	"time"
)

// patience is how long a build that was cancelled waits for the layers of steps
// that were done: most are there in a moment, and the next build finds them. One
// may take minutes, if a step has written much.
const patience = 2 * time.Second

// lastCalls cancels the commits of a build that was cancelled, after patience.
type lastCalls struct {
	mu      sync.Mutex
	over    error // why they are cancelled
	cancels []context.CancelCauseFunc
}

// watch ends when stop is called.
func (l *lastCalls) watch(ctx context.Context) (stop func()) {
	ended := make(chan struct{})
	undo := context.AfterFunc(ctx, func() {
		select {
		case <-ended:
		case <-time.After(patience):
			l.end(context.Cause(ctx))
		}
	})
	return func() {
		undo()
		close(ended)
	}
}

func (l *lastCalls) end(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = why
	for _, cancel := range l.cancels {
		cancel(why)
	}
}

// context returns one that outlives ctx, until the last call.
func (l *lastCalls) context(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancels = append(l.cancels, cancel)
	if l.over != nil {
		cancel(l.over)
	}
	return ctx
}
