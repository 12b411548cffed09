package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"cooper/layers"
	"cooper/run"
)

// systemInfo is what docker's info says, as far as there is such a thing without a
// daemon.
type systemInfo struct {
	Containers        int
	ContainersRunning int
	ContainersPaused  int
	ContainersStopped int
	Images            int
	Driver            string
	LoggingDriver     string
	CgroupDriver      string
	CgroupVersion     string
	KernelVersion     string
	OperatingSystem   string
	OSType            string
	Architecture      string
	NCPU              int
	MemTotal          int64
	DockerRootDir     string
	RunRoot           string
	Name              string
	ServerVersion     string
	SecurityOptions   []string
	DefaultRuntime    string
	Rootless          bool
	// Isolation is the tier that containers here have, Warnings what is missing
	// in it.
	Isolation string
	Warnings  []string
}

// info is the info command.
func (e *Env) info(ctx context.Context, format string) error {
	in, err := e.systemInfo(ctx)
	if err != nil {
		return err
	}
	switch format {
	case "":
		return e.printInfo(in)
	case "json":
		text, err := toJSON(in)
		if err == nil {
			_, err = fmt.Fprintln(e.Stdout, text)
		}
		return err
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	if err := t.Execute(e.Stdout, in); err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	_, err = fmt.Fprintln(e.Stdout)
	return err
}

func (e *Env) systemInfo(ctx context.Context) (systemInfo, error) {
	in := systemInfo{
		LoggingDriver: "k8s-file", CgroupDriver: "cgroupfs", OSType: runtime.GOOS, NCPU: runtime.NumCPU(),
		ServerVersion: Version(), DefaultRuntime: "cooper", Rootless: layers.Rootless(),
	}
	cs, err := e.containers(ctx)
	if err != nil {
		return in, err
	}
	in.Driver, in.DockerRootDir, in.RunRoot = e.store.DriverName(), e.store.Root(), e.store.RunRoot()
	all, err := listContainers(cs)
	if err != nil {
		return in, err
	}
	in.Containers = len(all)
	for _, c := range all {
		switch {
		case c.state.Status == run.StatusPaused:
			in.ContainersPaused++
		case c.state.Alive():
			in.ContainersRunning++
		default:
			in.ContainersStopped++
		}
	}
	images, err := e.store.Images()
	if err != nil {
		return in, err
	}
	in.Images = len(images)
	tier, err := run.DetectTier()
	if err != nil {
		return in, err
	}
	in.Isolation, in.Warnings = tier.String(), tier.Missing()
	in.CgroupVersion = fmt.Sprint(tier.Cgroup)
	if tier.Cgroup == 0 {
		in.CgroupVersion, in.CgroupDriver = "", "none"
	}
	in.SecurityOptions = []string{"name=seccomp,profile=builtin"}
	if in.Rootless {
		in.SecurityOptions = append(in.SecurityOptions, "name=rootless")
	}
	return in, in.addMachine()
}

// addMachine fills in what the kernel says of the machine.
func (in *systemInfo) addMachine() error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	in.KernelVersion, in.Architecture, in.Name = unix.ByteSliceToString(uts.Release[:]), unix.ByteSliceToString(uts.Machine[:]), unix.ByteSliceToString(uts.Nodename[:])
	var memory unix.Sysinfo_t
	if err := unix.Sysinfo(&memory); err != nil {
		return fmt.Errorf("sysinfo: %w", err)
	}
	in.MemTotal = int64(memory.Totalram) * int64(memory.Unit)
	in.OperatingSystem = prettyName("/etc/os-release")
	return nil
}

// prettyName is the system's name in an os-release file.
func prettyName(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "Linux"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"'`)
		}
	}
	return "Linux"
}

// printInfo prints what docker's info prints, in its order.
func (e *Env) printInfo(in systemInfo) error {
	w := bufio.NewWriter(e.Stdout)
	for _, line := range []struct {
		name  string
		value any
	}{
		{"Containers", in.Containers}, {" Running", in.ContainersRunning}, {" Paused", in.ContainersPaused}, {" Stopped", in.ContainersStopped},
		{"Images", in.Images}, {"Version", in.ServerVersion}, {"Storage Driver", in.Driver}, {"Logging Driver", in.LoggingDriver},
		{"Cgroup Driver", in.CgroupDriver}, {"Cgroup Version", in.CgroupVersion}, {"Default Runtime", in.DefaultRuntime}, {"Isolation", in.Isolation},
		{"Kernel Version", in.KernelVersion}, {"Operating System", in.OperatingSystem}, {"OSType", in.OSType},
		{"Architecture", in.Architecture}, {"CPUs", in.NCPU}, {"Total Memory", humanSize(in.MemTotal)}, {"Name", in.Name},
		{"Root Dir", in.DockerRootDir}, {"Run Root", in.RunRoot},
	} {
		fmt.Fprintf(w, "%s: %v\n", line.name, line.value)
	}
	for _, missing := range in.Warnings {
		fmt.Fprintf(w, "WARNING: without %s\n", missing)
	}
	return w.Flush()
}
