package runner

import (
	"os"
	"strconv"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"cooper/run/internal/stage"
	"cooper/run/internal/wire"
)

// stageProcess is a process of libcontainer's that executes the last stage, whose
// instructions may come as late as its gate is opened.
type stageProcess struct {
	libraryProcess
	instructions *os.File
	// report is where the last stage says what went wrong; it ends when the
	// user's program is executed. reporter is the other end.
	report, reporter *os.File
	gate             *gate // of a first process
}

// The last stage's descriptors, in the order of ExtraFiles.
const (
	stageExe = 3 + iota
	stageInstructions
	stageReport
	stageStdio

	maxStreams = 3
)

// newStageProcess makes a process that is to be started. A first process gets its
// streams at the gate, another one at its start.
func (r *runner) newStageProcess(first bool, streams []*os.File) (p *stageProcess, err error) {
	p = &stageProcess{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.instructions, err = memfile("stage"); err != nil {
		return nil, err
	}
	if p.report, p.reporter, err = os.Pipe(); err != nil {
		return nil, err
	}
	if first {
		if p.gate, err = newGate(); err != nil {
			return nil, err
		}
		streams = []*os.File{p.gate.theirs, r.null, r.null} // kept free for them
	}
	p.Process = &libcontainer.Process{
		Init: first,
		Args: []string{"/proc/self/fd/" + strconv.Itoa(stageExe)},
		// HOME keeps libcontainer from looking for one.
		Env:        []string{stage.Env + "=" + strconv.Itoa(stageInstructions), "HOME=/"},
		Stdin:      r.null,
		Stdout:     r.null,
		Stderr:     r.null,
		ExtraFiles: append([]*os.File{r.exe, p.instructions, p.reporter}, streams...),
	}
	return p, nil
}

// standardStreams are those of files that streamOf names, and for each stream its
// descriptor in the last stage.
func standardStreams(streamOf [3]int, files []*os.File) (streams []*os.File, stdio [3]int32) {
	for i, n := range streamOf {
		stdio[i] = -1
		if n >= 0 && n < len(files) {
			stdio[i] = stageStdio + int32(len(streams))
			streams = append(streams, files[n])
		}
	}
	return streams, stdio
}

// instruct writes the last stage's instructions.
func (p *stageProcess) instruct(st *wire.Stage, stdio [3]int32) error {
	b, err := stage.Encode(st, stdio, max(stageStdio, stdio[0]+1, stdio[1]+1, stdio[2]+1))
	if err != nil {
		return err
	}
	_, err = p.instructions.Write(b)
	return err
}

// handOver closes what the started process has now, so that its end of the report is
// the only one.
func (p *stageProcess) handOver() {
	p.instructions.Close()
	p.reporter.Close()
	if p.gate != nil {
		p.gate.theirs.Close()
	}
}

// executed waits until the user's program has been, or returns why it could not be.
func (p *stageProcess) executed() error {
	f, err := stage.ReadFailure(p.report)
	if f != nil {
		return f
	}
	return err
}

func (p *stageProcess) close() {
	for _, f := range []*os.File{p.report, p.reporter, p.instructions} {
		if f != nil {
			f.Close()
		}
	}
	if p.gate != nil {
		p.gate.close()
	}
}

// memfile returns an empty file in memory.
func memfile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
