package run

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a process of a container, as /proc describes it.
type Process struct {
	// PID and PPID are as this process sees them. UID and GID are the effective
	// ones, as the container has them.
	PID, PPID, PGID, SID int
	UID, GID             int
	// Name is the program's, at most 15 bytes; Args are empty for what has
	// none.
	Name string
	Args []string
	// State is ps's letter: R, S, D, Z, T and so on.
	State string
	// TTY is the terminal, such as "pts/0"; "" means none.
	TTY            string
	Nice, Priority int
	Threads        int
	Started        time.Time
	// CPU is the time that it has used of processors.
	CPU time.Duration
	// VirtualSize and ResidentSize are in bytes.
	VirtualSize, ResidentSize int64
}

// Processes lists the container's processes, the first process first and then by
// id. The error wraps ErrNotRunning if it does not run.
func (c *Container) Processes() ([]Process, error) {
	st, err := c.State()
	if err != nil {
		return nil, err
	}
	if !st.Running() || st.PID == 0 {
		return nil, fmt.Errorf("container %s: %w", c.opts().Name, ErrNotRunning)
	}
	pids, err := containerPIDs(st)
	if err != nil {
		return nil, c.fail("list processes", err)
	}
	var list []Process
	for _, pid := range pids {
		p, err := readProcess(filepath.Join("/proc", strconv.Itoa(pid)))
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, c.fail("list processes", err)
		}
		uid, gid := c.opts().Config.UserNS.owners().Inside(uint32(p.UID), uint32(p.GID))
		p.UID, p.GID = int(uid), int(gid)
		list = append(list, p)
	}
	place := func(p Process) int {
		if p.PID == st.PID {
			return 0
		}
		return p.PID
	}
	slices.SortFunc(list, func(a, b Process) int { return place(a) - place(b) })
	return list, nil
}

// gone reports whether an error about a process is that it has ended.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// containerPIDs finds the processes of a running container: those in its cgroup,
// else those in its process id namespace, else the first process's descendants.
func containerPIDs(st State) ([]int, error) {
	for _, dir := range st.Cgroups {
		pids, err := cgroupPIDs(dir)
		if err == nil && slices.Contains(pids, st.PID) {
			return pids, nil
		}
	}
	all, err := allPIDs()
	if err != nil {
		return nil, err
	}
	namespace := func(pid string) string {
		link, _ := os.Readlink("/proc/" + pid + "/ns/pid")
		return link
	}
	if own := namespace(strconv.Itoa(st.PID)); own != "" && own != namespace("self") {
		return slices.DeleteFunc(all, func(pid int) bool { return namespace(strconv.Itoa(pid)) != own }), nil
	}
	return descendants(st.PID, all), nil
}

// cgroupPIDs lists the processes in a cgroup and those below it.
func cgroupPIDs(dir string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for word := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return err
	})
	return pids, err
}

func allPIDs() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// descendants are first and the processes that it and its descendants started.
func descendants(first int, all []int) []int {
	children := make(map[int][]int)
	for _, pid := range all {
		p, err := readProcess(filepath.Join("/proc", strconv.Itoa(pid)))
		if err == nil {
			children[p.PPID] = append(children[p.PPID], pid)
		}
	}
	found := []int{first}
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found
}

// readProcess reads a directory of /proc.
func readProcess(dir string) (Process, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Process{}, err
	}
	p, err := parseStat(stat)
	if err != nil {
		return p, err
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return p, err
	}
	p.UID, p.GID = statusID(status, "Uid:"), statusID(status, "Gid:")
	args, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return p, err
	}
	if args = bytes.TrimRight(args, "\x00"); len(args) > 0 {
		p.Args = strings.Split(string(args), "\x00")
	}
	return p, nil
}

// ticks is how many clock ticks a second has in /proc, on every architecture.
const ticks = 100

// parseStat reads /proc/PID/stat, see proc_pid_stat(5). The second field is the
// program's name, in parentheses, and may hold anything.
func parseStat(stat []byte) (Process, error) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return Process{}, fmt.Errorf("/proc/PID/stat is not understood: %q", stat)
	}
	fields := strings.Fields(string(stat[end+1:])) // from the third on
	const wanted = 22
	if len(fields) < wanted {
		return Process{}, fmt.Errorf("/proc/PID/stat is not understood: %q", stat)
	}
	number := func(field int) int64 { // as the manual page counts them
		n, _ := strconv.ParseInt(fields[field-3], 10, 64)
		return n
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(stat[:open])))
	if err != nil {
		return Process{}, fmt.Errorf("/proc/PID/stat is not understood: %q", stat)
	}
	return Process{
		PID: pid, Name: string(stat[open+1 : end]), State: fields[0],
		PPID: int(number(4)), PGID: int(number(5)), SID: int(number(6)), TTY: terminalName(int(number(7))),
		CPU:      time.Duration(number(14)+number(15)) * time.Second / ticks,
		Priority: int(number(18)), Nice: int(number(19)), Threads: int(number(20)),
		Started:     bootTime().Add(time.Duration(number(22)) * time.Second / ticks),
		VirtualSize: number(23), ResidentSize: number(24) * int64(os.Getpagesize()),
	}, nil
}

// terminalName names a terminal by its device number.
func terminalName(dev int) string {
	major, minor := dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
	switch {
	case dev == 0:
		return ""
	case major >= 136 && major <= 143:
		return "pts/" + strconv.Itoa(minor+(major-136)<<20)
	case major == 4 && minor < 64:
		return "tty" + strconv.Itoa(minor)
	case major == 4:
		return "ttyS" + strconv.Itoa(minor-64)
	}
	return fmt.Sprintf("%d,%d", major, minor)
}

// bootTime is when this machine was started.
var bootTime = sync.OnceValue(func() time.Time {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}
	}
	for lines := bufio.NewScanner(bytes.NewReader(stat)); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "btime "); ok {
			seconds, _ := strconv.ParseInt(text, 10, 64)
			return time.Unix(seconds, 0)
		}
	}
	return time.Time{}
})

// statusID is the effective id of a line "Uid:" or "Gid:" in /proc/PID/status.
func statusID(status []byte, key string) int {
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == key {
			id, _ := strconv.Atoi(fields[2])
			return id
		}
	}
	return 0
}
