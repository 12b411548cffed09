package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// startCooper readies our commands as root.
func startCooper(ctx context.Context, dir string, o options) (*tool, error) {
	return cooper(ctx, dir, o, nil)
}

// startRootless readies our commands as an ordinary user.
func startRootless(ctx context.Context, dir string, o options) (*tool, error) {
	if o.user == "" {
		return nil, fmt.Errorf("no ordinary user: %w", errMissing)
	}
	u, err := user.Lookup(o.user)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return cooper(ctx, dir, o, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)})
}

func cooper(ctx context.Context, dir string, o options, who *syscall.Credential) (*tool, error) {
	bin, err := stage(filepath.Join(dir, "bin"))
	if err != nil {
		return nil, err
	}
	store := filepath.Join(dir, "store")
	for _, d := range []string{store, filepath.Join(dir, "home"), filepath.Join(dir, "runtime")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
		if who != nil {
			if err := os.Chown(d, int(who.Uid), int(who.Gid)); err != nil {
				return nil, err
			}
		}
	}
	base := filepath.Join(dir, "base")
	if err := writeDockerfile(base, "FROM busybox-base\n"); err != nil {
		return nil, err
	}
	at := []string{"--root", filepath.Join(store, "root"), "--runroot", filepath.Join(store, "run")}
	t := &tool{
		credential: who,
		env: []string{
			"HOME=" + filepath.Join(dir, "home"),
			"XDG_RUNTIME_DIR=" + filepath.Join(dir, "runtime"),
		},
		build: func(dir, name string, fresh bool) []string {
			args := append([]string{filepath.Join(bin, "build")}, at...)
			if fresh {
				args = append(args, "--no-cache")
			}
			return append(args, "-t", name, dir)
		},
		call: func(verb string, args ...string) []string {
			full := []string{filepath.Join(bin, "cooper"), verb}
			if verb == "run" {
				full = []string{filepath.Join(bin, "run")}
			}
			return slices.Concat(full, at, args)
		},
	}
	// A fresh store is the surest way to forget: no layer, record or stat
	// cache of an earlier run is left.
	t.forget = func(ctx context.Context, t *tool) error {
		if err := removeAll(filepath.Join(store, "root")); err != nil {
			return err
		}
		if err := removeAll(filepath.Join(store, "run")); err != nil {
			return err
		}
		args := t.build(base, "busybox-base", false)
		layout := "busybox-base=oci-layout://" + filepath.Join(o.base, "busybox-base") + ":latest"
		return t.do(ctx, append(args, "--build-context", layout)...)
	}
	return t, t.forget(ctx, t)
}

// stageProgram copies this program to where every user can start it.
func stageProgram(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, "bench")
	if out, err := exec.Command("cp", exe, to).CombinedOutput(); err != nil {
		return "", fmt.Errorf("copy %s: %w: %s", exe, err, out)
	}
	return to, nil
}

// stage copies our commands to where every user can start them.
func stage(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, name := range []string{"build", "run", "cooper"} {
		if _, err := os.Stat(filepath.Join("bin", name)); err != nil {
			return "", fmt.Errorf("bin/%s: %w", name, errMissing)
		}
		if out, err := exec.Command("cp", filepath.Join("bin", name), dir).CombinedOutput(); err != nil {
			return "", fmt.Errorf("copy bin/%s: %w: %s", name, err, out)
		}
	}
	return dir, nil
}
