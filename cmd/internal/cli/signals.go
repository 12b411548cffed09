package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// interruption is the cause of a context that a signal ended.
type interruption struct{ signal syscall.Signal }

func (i interruption) Error() string {
	if i.signal == syscall.SIGINT {
		return "interrupted"
	}
	return "ended by " + unix.SignalName(i.signal)
}

// Is makes an interruption a cancellation for those who look for one.
func (i interruption) Is(target error) bool { return target == context.Canceled }

// interruptible returns a context that the first SIGINT, SIGTERM or SIGHUP ends;
// the second ends the process at once. Containers and mounts do not outlive it.
func interruptible(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for n := 1; ; n++ {
			select {
			case <-done:
				return
			case sig := <-ch:
				i := interruption{sig.(syscall.Signal)}
				if n > 1 {
					os.Exit(128 + int(i.signal))
				}
				cancel(i)
			}
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		close(done)
		cancel(nil)
	}
}

// maxInterrupts is how many SIGINT and SIGTERM a container may ignore; with the
// last of them it is ended.
const maxInterrupts = 3

// forwarded are the signals that a container's first process is to get. Left
// out are those that are about this process: its children and pipes, faults of
// its own, job control (a process that catches SIGTTIN would spin) and the size
// of the terminal, which run follows.
func forwarded() []os.Signal {
	skip := map[syscall.Signal]bool{
		syscall.SIGKILL: true, syscall.SIGSTOP: true, syscall.SIGCHLD: true, syscall.SIGPIPE: true,
		syscall.SIGURG: true, syscall.SIGPROF: true, syscall.SIGWINCH: true, syscall.SIGCONT: true,
		syscall.SIGTSTP: true, syscall.SIGTTIN: true, syscall.SIGTTOU: true,
		syscall.SIGSEGV: true, syscall.SIGBUS: true, syscall.SIGFPE: true, syscall.SIGILL: true,
		syscall.SIGTRAP: true, syscall.SIGABRT: true, syscall.SIGSYS: true,
		32: true, 33: true, 34: true, // the C library's own
	}
	var list []os.Signal
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if !skip[sig] {
			list = append(list, sig)
		}
	}
	return list
}

// forward returns the signals for a container's first process, and a context
// that ends when it has ignored too many.
func forward(parent context.Context) (ctx context.Context, signals <-chan os.Signal, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	in, out := make(chan os.Signal, 16), make(chan os.Signal, 16)
	signal.Notify(in, forwarded()...)
	done := make(chan struct{})
	go func() {
		interrupts := 0
		for {
			var sig os.Signal
			select {
			case <-done:
				return
			case sig = <-in:
			}
			if sig == syscall.SIGINT || sig == syscall.SIGTERM {
				if interrupts++; interrupts >= maxInterrupts {
					cancel(interruption{sig.(syscall.Signal)})
				}
			}
			select {
			case out <- sig:
			default: // the container does not keep up
			}
		}
	}()
	return ctx, out, func() {
		signal.Stop(in)
		close(done)
		cancel(nil)
	}
}
