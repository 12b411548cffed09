package registry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"
)

// waits are the pauses before each further attempt of what failed in a way that
// may pass. image/v5 itself waits when a registry answers 429.
var waits = []time.Duration{300 * time.Millisecond, 2 * time.Second}

// each calls f with what ref may mean until one succeeds. The errors of all are
// returned when none does.
func each[T any](ctx context.Context, c *Client, op string, ref Reference, f func(Reference) (T, error)) (T, error) {
	var none T
	refs, err := c.Candidates(ref)
	if err != nil {
		return none, failure(ctx, op, ref, err)
	}
	var errs []error
	for _, candidate := range refs {
		v, err := repeat(ctx, c, candidate, func() (T, error) { return f(candidate) })
		if err == nil {
			return v, nil
		}
		errs = append(errs, failure(ctx, op, candidate, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 1 {
		return none, errs[0]
	}
	return none, errors.Join(errs...)
}

// repeat calls f again after a failure that may pass; those of files do not.
func repeat[T any](ctx context.Context, c *Client, ref Reference, f func() (T, error)) (T, error) {
	for attempt := 0; ; attempt++ {
		v, err := f()
		if err == nil || attempt == c.retries() || ref.transport != Docker || !c.mayPass(err) || ctx.Err() != nil {
			return v, err
		}
		wait := c.wait(attempt)
		c.log().Debug("registry: trying again", "after", wait, "error", redact(err.Error()))
		select {
		case <-ctx.Done():
			return v, err
		case <-time.After(wait):
		}
	}
}

// retries is how many further attempts there are.
func (c *Client) retries() int {
	if c.Retries != nil {
		return *c.Retries
	}
	return len(waits)
}

// wait is the pause after an attempt.
func (c *Client) wait(attempt int) time.Duration {
	if c.RetryDelay > 0 {
		return c.RetryDelay
	}
	return waits[min(attempt, len(waits)-1)]
}

// mayPass reports whether err may be gone in a moment. Who asks for attempts
// waits for a registry that is still starting, too.
func (c *Client) mayPass(err error) bool {
	return mayPass(err) || c.Retries != nil && errors.Is(err, syscall.ECONNREFUSED)
}

// mayPass reports whether err looks like one bad moment of a working registry.
func mayPass(err error) bool {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsTemporary
	}
	switch {
	case !isUnreachable(err), isTLS(err), isPlain(err), errors.Is(err, syscall.ECONNREFUSED):
		return false
	}
	return status(err) != http.StatusTooManyRequests && status(err) != http.StatusNotImplemented
}
