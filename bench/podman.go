package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// startBuildah readies buildah, with a layer for each step as the others have.
func startBuildah(ctx context.Context, dir string, o options) (*tool, error) {
	t, err := libpod(ctx, dir, o, "buildah")
	if err != nil {
		return nil, err
	}
	t.build = func(dir, name string, fresh bool) []string {
		return buildArgs([]string{"buildah", "bud", "--layers"}, dir, name, fresh)
	}
	return t, nil
}

// startPodman readies podman.
func startPodman(ctx context.Context, dir string, o options) (*tool, error) {
	t, err := libpod(ctx, dir, o, "podman")
	if err != nil {
		return nil, err
	}
	t.build = func(dir, name string, fresh bool) []string {
		return buildArgs([]string{"podman", "build"}, dir, name, fresh)
	}
	t.call = func(verb string, args ...string) []string {
		return append([]string{"podman", verb}, args...)
	}
	return t, nil
}

func buildArgs(args []string, dir, name string, fresh bool) []string {
	if fresh {
		args = append(args, "--no-cache")
	}
	return append(args, "--network", "host", "-t", name, dir)
}

// libpod readies what buildah and podman have in common.
func libpod(ctx context.Context, dir string, o options, command string) (*tool, error) {
	for _, name := range []string{command, "skopeo", "runc"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, errMissing)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	storage := fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "run"))
	// Their defaults want systemd and limits that not every machine allows;
	// without a journal, events go to a file.
	containers := fmt.Sprintf("[containers]\ndefault_ulimits = [\"nofile=%d:%[1]d\", \"nproc=1024:1024\"]\n"+
		"[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n", files.Max)
	for name, text := range map[string]string{"storage.conf": storage, "containers.conf": containers} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	t := &tool{
		env: []string{
			"CONTAINERS_STORAGE_CONF=" + filepath.Join(dir, "storage.conf"),
			"CONTAINERS_CONF=" + filepath.Join(dir, "containers.conf"),
			"BUILDAH_RUNTIME=runc",
		},
		forget: func(ctx context.Context, t *tool) error {
			for _, image := range []string{"localhost/bench", "localhost/tree-base"} {
				// It may not be there.
				_ = t.do(ctx, command, "rmi", "-f", image)
			}
			if command == "buildah" {
				return t.do(ctx, "buildah", "rmi", "--prune", "-f")
			}
			return t.do(ctx, "podman", "image", "prune", "-f")
		},
	}
	return t, t.do(ctx, "skopeo", "copy", "--quiet",
		"oci:"+filepath.Join(o.base, "busybox-base")+":latest", "containers-storage:localhost/busybox-base:latest")
}
