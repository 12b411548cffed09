package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScript runs the scripts in testdata/script through the real commands in
// bin, which make build leaves there. Each script has a home directory and an
// image store of its own, and must leave no mount and no process behind.
//
// Beside testscript's own commands there is
//
//	exits N command...     the command ends with status N
//	imageconfig IMAGE FILE the image's config and history, as skopeo finds
//	                       them, go to FILE in canonical form
//	serve DIR              DIR is served at $URL, see there
//	drive FILE N P TEXT    a page is fetched N times, P at once, see there
//	notify FILE            what is told to systemd goes to FILE
//
// and the conditions [root], [rootless], [git], [binfmt], which is true when user
// namespaces may have handlers for foreign programs, and [peers], which is true when the
// other builders that scripts compare with are installed, and [runtimes], for other
// OCI runtimes. In the environment,
// BUSYBOX is the option that makes `FROM busybox` find the test base, BASES the
// directory of the bases and EXAMPLES that of the example Dockerfiles.
func TestScript(t *testing.T) {
	bin := commands(t)
	bases := bases(t, bin)
	t.Setenv("GOTMPDIR", os.TempDir())
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               func(e *testscript.Env) error { return setup(e, bin, bases) },
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":       exits,
			"imageconfig": imageConfig,
			"serve":       serve,
			"registry":    startRegistry,
			"notify":      listenNotify,
			"drive":       drive,
		},
	})
}

// commands returns the directory of the built commands.
func commands(t *testing.T) string {
	t.Helper()
	bin, err := filepath.Abs("../../../bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"build", "run", "cooper"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			t.Fatalf("no commands to test, make build makes them: %v", err)
		}
	}
	return bin
}

// bases returns the directory of the base images, making the one that every
// script uses.
func bases(t *testing.T, bin string) string {
	t.Helper()
	script := filepath.Join(filepath.Dir(bin), "scripts", "bases")
	if out, err := exec.Command(script, "busybox-base").CombinedOutput(); err != nil {
		t.Fatalf("no base image: %v\n%s", err, out)
	}
	out, err := exec.Command(script, "-p", "busybox-base").Output()
	if err != nil {
		t.Fatalf("ask where the base images are: %v", err)
	}
	return strings.TrimSpace(string(out))
}

func rootless() bool { return os.Geteuid() != 0 }

func condition(name string) (bool, error) {
	switch name {
	case "root":
		return !rootless(), nil
	case "rootless":
		return rootless(), nil
	case "registry", "ssh":
		_, err := exec.LookPath(map[string]string{"registry": "docker-registry", "ssh": "ssh-keygen"}[name])
		return err == nil, nil
	case "binfmt":
		// Since Linux 6.7 each user namespace may have handlers of its own.
		err := exec.Command("unshare", "-Urm", "mount", "-t", "binfmt_misc", "none", "/proc/sys/fs/binfmt_misc").Run()
		return err == nil, nil
	case "runtimes":
		for _, command := range []string{"runc", "crun"} {
			if _, err := exec.LookPath(command); err != nil {
				return false, nil
			}
		}
		return true, nil
	case "git":
		_, err := exec.LookPath("git")
		return err == nil, nil
	case "peers":
		for _, command := range []string{"buildah", "podman", "runc", "skopeo", "umoci"} {
			if _, err := exec.LookPath(command); err != nil {
				return false, nil
			}
		}
		return true, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// setup gives a script its own home, runtime directory and image store.
func setup(e *testscript.Env, bin, bases string) error {
	// Not below WorkDir: conmon's sockets lie in it, and a path to a socket
	// has 107 bytes at most. podman hangs for 20 seconds when it is longer.
	private, err := os.MkdirTemp("", "s")
	if err != nil {
		return err
	}
	e.Defer(func() { cleanup(e, private) })
	home := filepath.Join(private, "home")
	runtime := runtimeDir(private)
	for _, dir := range []string{home, runtime} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	vars := map[string]string{
		"BASES":           bases,
		"BUSYBOX":         "--build-context=busybox=oci-layout://" + filepath.Join(bases, "busybox-base") + ":latest",
		"HOME":            home,
		"PATH":            bin + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
		"XDG_RUNTIME_DIR": runtime,
		"EXAMPLES":        filepath.Join(filepath.Dir(bin), "testdata", "dockerfiles"),
		// For the peers, wherever the tests run.
		"CONTAINERS_CONF": filepath.Join(private, "containers.conf"),
		"BUILDAH_RUNTIME": "runc",
	}
	if err := os.WriteFile(vars["CONTAINERS_CONF"], []byte(peersConf()), 0o644); err != nil {
		return err
	}
	if err := storeConf(vars, private); err != nil {
		return err
	}
	for name, value := range vars {
		e.Setenv(name, value)
	}
	return nil
}

// storeConf configures the script's image store. An ordinary user's is at its
// usual place below the home; only the driver is named, because the podman of
// Debian 12 would choose vfs where fuse-overlayfs is not installed.
func storeConf(vars map[string]string, private string) error {
	conf := "[storage]\ndriver = \"overlay\"\n"
	name := filepath.Join(vars["HOME"], ".config", "containers", "storage.conf")
	if !rootless() {
		name = filepath.Join(private, "storage.conf")
		vars["CONTAINERS_STORAGE_CONF"] = name
		conf += fmt.Sprintf("graphroot = %q\nrunroot = %q\n",
			filepath.Join(private, "store"), filepath.Join(runtimeDir(private), "containers"))
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(conf), 0o644)
}

// peersConf lets podman and buildah run containers on machines where their
// defaults don't: without systemd, on cgroup v1, with low limits.
func peersConf() string {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		files.Max = 1024
	}
	return fmt.Sprintf(`[containers]
netns = "host"
default_ulimits = ["nofile=%d:%[1]d", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`, files.Max)
}

// runtimeDir is XDG_RUNTIME_DIR of the script with this private directory.
func runtimeDir(private string) string { return filepath.Join(private, "run") }

// cleanup fails the script when it left a mount or a process of ours, and
// removes its store, parts of which may belong to other ids.
func cleanup(e *testscript.Env, private string) {
	endPause(filepath.Join(runtimeDir(private), "libpod", "tmp", "pause.pid"))
	for _, pid := range lasting(func() []int { return monitors(private) }) {
		e.T().Log(fmt.Sprintf("left running: a container, whose monitor is process %d", pid))
		defer e.T().FailNow()
		_ = syscall.Kill(pid, syscall.SIGKILL) // and the container with it
	}
	for _, p := range lasting(func() []string { return processes(private) }) {
		e.T().Log("left running: " + p)
		defer e.T().FailNow()
	}
	for _, dir := range append(mounts(private), mounts(e.WorkDir)...) {
		// The storage library mounts its own directory on itself and
		// leaves it so; podman does the same.
		if dir != filepath.Join(private, "store", "overlay") {
			e.T().Log("left mounted: " + dir)
			defer e.T().FailNow()
		}
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			e.T().Log(fmt.Sprintf("unmount %s: %v", dir, err))
		}
	}
	removeMapped(e, private)
}

// lasting returns what list still lists after two seconds; the runner of a
// command that was killed needs a moment to notice, and a monitor one to end.
func lasting[T any](list func() []T) []T {
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if len(list()) == 0 {
			return nil
		}
	}
	return list()
}

// endPause ends the process by which podman keeps its user namespace.
func endPause(pidFile string) {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// mounts lists the mount points below dir, the innermost first.
func mounts(dir string) []string {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var found []string
	for _, line := range strings.Split(string(table), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			found = append([]string{fields[4]}, found...)
		}
	}
	return found
}

// processes lists the running processes of the script with this private
// directory.
func processes(private string) []string {
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil
	}
	mine := "XDG_RUNTIME_DIR=" + runtimeDir(private)
	var found []string
	for _, name := range environments {
		environ, err := os.ReadFile(name)
		if err != nil || !strings.Contains("\x00"+string(environ), "\x00"+mine+"\x00") {
			continue
		}
		args, err := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
		if err == nil && len(args) > 0 {
			found = append(found, strings.ReplaceAll(string(args), "\x00", " "))
		}
	}
	return found
}

// monitors lists the monitors of containers in a script's store: they have the
// container's directory open.
func monitors(private string) []int {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil
	}
	var found []int
	for _, name := range names {
		if comm, err := os.ReadFile(name); err != nil || !strings.HasPrefix(string(comm), "cooper-monitor") {
			continue
		}
		files, err := filepath.Glob(filepath.Join(filepath.Dir(name), "fd", "*"))
		if err != nil {
			continue
		}
		for _, file := range files {
			path, err := os.Readlink(file)
			pid, numErr := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err == nil && numErr == nil && strings.HasPrefix(path, private+"/") {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}

// removeMapped removes a directory with files of the user's subordinate ids,
// which only root of the user namespace may.
func removeMapped(e *testscript.Env, dir string) {
	if os.RemoveAll(dir) == nil {
		return
	}
	cmd := exec.Command("unshare", "--map-root-user", "--map-auto", "rm", "-rf", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		e.T().Log(fmt.Sprintf("remove %s: %v\n%s", dir, err, out))
	}
}

// exits N command... runs a command that must end with status N.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits status command [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s ended with status %d, want %d", args[1], got, want)
	}
}

// imageConfig IMAGE FILE writes what the image says about itself to FILE: the
// config member and the history of its OCI config, without times.
func imageConfig(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: imageconfig image file")
	}
	ts.Check(ts.Exec("skopeo", "inspect", "--raw", "--config", "containers-storage:"+args[0]))
	var image struct {
		Config  map[string]any   `json:"config"`
		History []map[string]any `json:"history"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &image))
	for _, entry := range image.History {
		delete(entry, "created")
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	ts.Check(enc.Encode(map[string]any{"config": image.Config, "history": image.History}))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), text.Bytes(), 0o644))
}
