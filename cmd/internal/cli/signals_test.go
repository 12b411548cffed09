package cli

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"
)

// send sends a signal to this process.
func send(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		t.Fatal(err)
	}
}

// waitFor fails the test when ch has nothing for too long.
func waitFor[T any](t *testing.T, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(10 * time.Second):
		t.Fatalf("no %s", what)
	}
	return v
}

func TestInterruptible(t *testing.T) {
	ctx, stop := interruptible(context.Background())
	defer stop()
	send(t, syscall.SIGTERM)
	waitFor(t, "end of the context", ctx.Done())
	var i interruption
	if err := context.Cause(ctx); !errors.As(err, &i) || i.signal != syscall.SIGTERM {
		t.Errorf("cause is %v, want SIGTERM", err)
	}
}

// A container gets every signal; the third SIGINT or SIGTERM ends the wait for
// it.
func TestForward(t *testing.T) {
	ctx, signals, stop := forward(context.Background())
	defer stop()
	for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGINT, syscall.SIGTERM} {
		send(t, sig)
		if got := waitFor(t, sig.String(), signals); got != sig {
			t.Errorf("forwarded %v, want %v", got, sig)
		}
	}
	if err := ctx.Err(); err != nil {
		t.Fatalf("context ended after two interrupts: %v", err)
	}
	send(t, syscall.SIGINT)
	waitFor(t, "end of the context", ctx.Done())
}
