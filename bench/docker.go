package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Debian's client and daemon, whatever other client is first on the path:
// the client of this version reaches BuildKit without a plugin.
const (
	dockerClient = "/usr/bin/docker"
	dockerDaemon = "/usr/sbin/dockerd"
)

// startBuildKit readies docker's present builder.
func startBuildKit(ctx context.Context, dir string, o options) (*tool, error) {
	return docker(ctx, dir, o, "DOCKER_BUILDKIT=1")
}

// startClassic readies the builder that docker had before.
func startClassic(ctx context.Context, dir string, o options) (*tool, error) {
	t, err := docker(ctx, dir, o, "DOCKER_BUILDKIT=0")
	if err == nil {
		t.call = nil // the same daemon runs containers for both
	}
	return t, err
}

// docker starts a daemon of its own below dir, on a private socket.
func docker(ctx context.Context, dir string, o options, builder string) (*tool, error) {
	for _, name := range []string{dockerClient, dockerDaemon} {
		if _, err := os.Stat(name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, errMissing)
		}
	}
	end, err := startDaemon(dir)
	if err != nil {
		return nil, err
	}
	t := &tool{
		close: end,
		env: []string{
			builder,
			"DOCKER_HOST=unix://" + filepath.Join(dir, "socket"),
			"DOCKER_CONFIG=" + filepath.Join(dir, "config"),
		},
		build: func(dir, name string, fresh bool) []string {
			args := []string{dockerClient, "build", "--network", "host"}
			if fresh {
				args = append(args, "--no-cache")
			}
			return append(args, "-t", name, dir)
		},
		call: func(verb string, args ...string) []string {
			return append([]string{dockerClient, verb}, args...)
		},
		daemons: []string{"dockerd", "containerd"},
		forget: func(ctx context.Context, t *tool) error {
			for _, image := range []string{"bench", "tree-base"} {
				// It may not be there.
				_ = t.do(ctx, dockerClient, "image", "rm", "-f", image)
			}
			if err := t.do(ctx, dockerClient, "image", "prune", "-f"); err != nil {
				return err
			}
			return t.do(ctx, dockerClient, "builder", "prune", "-af")
		},
	}
	if err := t.do(ctx, dockerClient, "load", "-i", filepath.Join(o.base, "busybox-base.tar")); err != nil {
		return nil, errors.Join(err, end())
	}
	return t, nil
}

// startDaemon starts dockerd and waits until it answers; end stops it.
func startDaemon(dir string) (end func() error, err error) {
	if err := os.MkdirAll(filepath.Join(dir, "config"), 0o700); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	socket := filepath.Join(dir, "socket")
	cmd := exec.Command(dockerDaemon, "--host", "unix://"+socket,
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"))
	cmd.Stdout, cmd.Stderr = log, log
	// Not ours to share: a Ctrl-C must reach us first.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	end = func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return cmd.Wait()
	}
	for range 300 {
		version := exec.Command(dockerClient, "--host", "unix://"+socket, "version")
		if version.Run() == nil {
			return end, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	return nil, errors.Join(fmt.Errorf("dockerd did not answer within 30 seconds: %s", text), end())
}
