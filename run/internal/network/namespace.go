package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ownNamespace is the network namespace of the calling thread.
const ownNamespace = "/proc/thread-self/ns/net"

// within calls f in the network namespace ns, nil meaning the caller's own. The
// sockets that f makes, and the files that it opens below /proc/sys/net, stay in
// that namespace wherever they are used later.
func within(ns *os.File, f func() error) error {
	if ns == nil {
		return f()
	}
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", os.NewSyscallError("setns", err))
		}
		return f()
	})
}

// onThread calls f on a thread that ends with the call, so that f may change the
// thread's namespaces.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: the runtime ends the thread
		err := errors.New("network thread ended early")
		defer func() { done <- err }()
		err = f()
	}()
	return <-done
}
