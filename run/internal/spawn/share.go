package spawn

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// programsFile in the state directory names processes that live long and execute
// the program from a file in memory, the newest first. Who starts one more uses
// that file again: the monitors of all containers share their program's memory.
const programsFile = "programs"

// programsKept is how many of them are remembered: should the newest end, another
// one very likely has the same file.
const programsKept = 16

// Share lets later commands use the file in memory that the process executes.
func Share(pid int) error {
	dir := DefaultDir()
	if !ownDir(dir) {
		return nil
	}
	path := filepath.Join(dir, programsFile)
	pids := append([]int{pid}, readPIDs(path)...)
	text := ""
	for _, pid := range pids[:min(len(pids), programsKept)] {
		text += strconv.Itoa(pid) + "\n"
	}
	part, err := os.CreateTemp(dir, programsFile+".")
	if err != nil {
		return err
	}
	_, err = part.WriteString(text)
	if err = errors.Join(err, part.Close()); err == nil {
		err = os.Rename(part.Name(), path)
	}
	if err != nil {
		os.Remove(part.Name())
	}
	return err
}

// shared returns a file in memory with this content that another process executes,
// nil if there is none. Nothing that is written in the state directory, and no
// process that has got an old one's id, can make it a file with anything else in it.
func shared(content []byte) *os.File {
	if len(content) == 0 {
		return nil
	}
	for _, pid := range readPIDs(filepath.Join(DefaultDir(), programsFile)) {
		f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/exe")
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

// readPIDs reads the file; one that is missing or not as expected is empty.
func readPIDs(path string) []int {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var pids []int
	for word := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// ownDir reports whether dir is this user's alone: in a directory that others can
// write, somebody may have made it first.
func ownDir(dir string) bool {
	var st syscall.Stat_t
	err := syscall.Lstat(dir, &st)
	return err == nil && st.Mode&syscall.S_IFMT == syscall.S_IFDIR && int(st.Uid) == os.Geteuid() && st.Mode&0o022 == 0
}
