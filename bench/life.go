package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// port is where the containers' servers are published; bench has a network
// namespace of its own.
const port = 18181

// address is that place for clients.
var address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))

// lives are the cases about running containers.
func lives(s size) []benchCase {
	nothing := func(flags ...string) probe {
		return func(ctx context.Context, _ string, t *tool) (float64, error) {
			args := append(append([]string{"--rm"}, flags...), image, "true")
			return timed(t.command(ctx, t.call("run", args...)))
		}
	}
	bare := func(measure func(context.Context) (float64, error)) []floor {
		return []floor{{name: "no container", measure: measure}}
	}
	return []benchCase{
		{name: "run", title: "run --rm true", probe: nothing()},
		{name: "run-host", title: "run --rm --network host true", probe: nothing("--network", "host")},
		{name: "up", title: "run -d until the port answers", probe: untilUp},
		{name: "memory-one", title: "memory beside 1 container, MiB", probe: beside(1), rounds: 1},
		{
			name: "memory-many", title: fmt.Sprintf("memory beside each of %d containers, MiB", s.containers),
			probe: beside(s.containers), rounds: 1,
		},
		{
			name: "stream", title: fmt.Sprintf("%d MiB out of a published port, MiB/s", s.streamBytes>>20),
			probe: served(s.streamed), floors: bare(s.streamed),
		},
		{
			name: "connect", title: fmt.Sprintf("%d connections to a published port, each second", s.connections),
			probe: served(s.connected), floors: bare(s.connected),
		},
	}
}

// image is the base image under the name that every tool has it by.
const image = "busybox-base"

// name is that of a case's n-th container.
func name(n int) string { return fmt.Sprintf("bench-%d", n) }

// start starts a container in the background; remove is to be called in the end,
// also after an error.
func start(ctx context.Context, t *tool, n int, args ...string) (remove func() error, err error) {
	remove = func() error {
		return t.do(context.WithoutCancel(ctx), t.call("rm", "-f", name(n))...)
	}
	return remove, t.do(ctx, t.call("run", append([]string{"-d", "--name", name(n)}, args...)...)...)
}

// untilUp times run -d of a web server until it answers on its published port.
func untilUp(ctx context.Context, _ string, t *tool) (seconds float64, err error) {
	begin := time.Now()
	remove, err := start(ctx, t, 0, "-p", fmt.Sprintf("%s:80", address), image, "httpd", "-f", "-p", "80", "-h", "/")
	defer func() {
		if removeErr := remove(); err == nil {
			err = removeErr
		}
	}()
	if err == nil {
		err = untilAnswer(ctx)
	}
	return time.Since(begin).Seconds(), err
}

// untilAnswer asks the web server until it answers.
func untilAnswer(ctx context.Context) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("no answer within a minute: %w", err)
		}
		time.Sleep(time.Millisecond)
	}
}

// served runs this program as a server in a container with a published port, and
// measures as its client.
func served(measure func(context.Context) (float64, error)) probe {
	return func(ctx context.Context, program string, t *tool) (result float64, err error) {
		remove, err := start(ctx, t, 0, "-p", fmt.Sprintf("%s:80", address), "-v", program+":/bench:ro", image, "/bench", "-serve", ":80")
		defer func() {
			if removeErr := remove(); err == nil {
				err = removeErr
			}
		}()
		if err == nil {
			err = untilServed(ctx)
		}
		if err != nil {
			return 0, err
		}
		return measure(ctx)
	}
}

// beside measures the memory of what runs on the host for n containers, divided by
// their number: monitors, proxies and what a daemon grows by.
func beside(n int) probe {
	return func(ctx context.Context, _ string, t *tool) (mib float64, err error) {
		before, err := memories()
		if err != nil {
			return 0, err
		}
		var started []string
		defer func() {
			if len(started) == 0 {
				return
			}
			args := append([]string{"-f"}, started...)
			if removeErr := t.do(context.WithoutCancel(ctx), t.call("rm", args...)...); err == nil {
				err = removeErr
			}
		}()
		for i := range n {
			if _, err := start(ctx, t, i, image, "sleep", "1000"); err != nil {
				return 0, err
			}
			started = append(started, name(i))
		}
		time.Sleep(time.Second) // until what a start needed is given back
		after, err := memories()
		if err != nil {
			return 0, err
		}
		return after.grownBy(before, t.daemons) / float64(n) / (1 << 20), nil
	}
}
