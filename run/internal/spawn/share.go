package spawn

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// programsFile in the state directory names files in memory that hold the program,
// as paths below /proc: what a process executes, PID/exe, or has open, PID/fd/N.
// The newest is the first. Who starts a monitor uses such a file again: the
// monitors of all containers share their program's memory.
const programsFile = "programs"

// programsKept is how many of them are remembered: should the newest process end,
// another one very likely has the same file.
const programsKept = 16

// keeps says that this process is to start a monitor that outlives it.
var keeps atomic.Bool

// Keep says that a monitor will be started that outlives this process. It comes
// before the first Start.
func Keep() { keeps.Store(true) }

// Share lets later commands use the file in memory that the process executes.
func Share(pid int) error { return remember(strconv.Itoa(pid) + "/exe") }

// sharedProgram returns a file in memory with this content that another process
// has, or nil. For a monitor that outlives this process it makes one, which those
// who are started at the same time wait for.
func sharedProgram(content []byte) *os.File {
	if len(content) == 0 {
		return nil
	}
	dir := DefaultDir()
	if f := find(dir, content); f != nil || !keeps.Load() || !ownDir(dir) {
		return f
	}
	lock, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil
	}
	if f := find(dir, content); f != nil {
		return f
	}
	f, err := InMemory("cooper-runner", openProgram)
	if err != nil {
		return nil
	}
	_ = remember(strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(f.Fd()))) // else others make their own
	return f
}

// remember puts a path in front of those in the programs file.
func remember(path string) error {
	dir := DefaultDir()
	if !ownDir(dir) {
		return nil
	}
	list := append([]string{path}, programs(dir)...)
	f, err := os.CreateTemp(dir, programsFile+".")
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(list[:min(len(list), programsKept)], "\n") + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, programsFile))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// find returns a file in memory with this content that another process has.
// Nothing that is written in the programs file, and no process that has got an old
// one's id, can make it a file with anything else in it.
func find(dir string, content []byte) *os.File {
	for _, path := range programs(dir) {
		f, err := os.OpenFile(filepath.Join("/proc", path), os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if sealed(f) && equal(f, content) {
			return f
		}
		f.Close()
	}
	return nil
}

// sealed reports whether nobody can change f any more.
func sealed(f *os.File) bool {
	const all = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	return err == nil && seals&all == all
}

// equal reports whether f holds content.
func equal(f *os.File, content []byte) bool {
	st, err := f.Stat()
	if err != nil || st.Size() != int64(len(content)) || st.Mode().Perm()&0o111 == 0 {
		return false
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, len(content), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return false
	}
	defer unix.Munmap(mem)
	return bytes.Equal(mem, content)
}

// programs reads the programs file; a line that is not as expected is left out, and
// a file that cannot be read is empty.
func programs(dir string) []string {
	b, err := os.ReadFile(filepath.Join(dir, programsFile))
	if err != nil {
		return nil
	}
	var list []string
	for line := range strings.FieldsSeq(string(b)) {
		if fs.ValidPath(line) && line[0] >= '0' && line[0] <= '9' {
			list = append(list, line)
		}
	}
	return list
}

// ownDir reports whether dir is this user's alone: in a directory that others can
// write, somebody may have made it first.
func ownDir(dir string) bool {
	var st syscall.Stat_t
	err := syscall.Lstat(dir, &st)
	return err == nil && st.Mode&syscall.S_IFMT == syscall.S_IFDIR && int(st.Uid) == os.Geteuid() && st.Mode&0o022 == 0
}
