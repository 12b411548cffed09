package run

import (
	"fmt"
	"syscall"

	"github.com/moby/sys/signal"
)

// ParseSignal reads a signal's name ("SIGTERM", "TERM", "term") or number; "" is 0.
func ParseSignal(s string) (syscall.Signal, error) {
	if s == "" {
		return 0, nil
	}
	sig, err := signal.ParseSignal(s)
	if err != nil {
		return 0, fmt.Errorf("signal %q: %w", s, err)
	}
	return sig, nil
}
