// Package stage is the last stage of a container's first process, between
// libcontainer and the user's program: seccomp filter, user, capabilities,
// working directory, lookup and exec, in C (stage.c says why and how).
//
// Importing it adds a constructor to the program, which does nothing unless the
// variable Env is set. The program is linked statically whatever the build's flags,
// because it is executed inside the container, without the host's libraries. The caller passes three files to the process, in this
// order: the program itself, the instructions (from Encode) and the writing end
// of a pipe for a failure's report (for ParseFailure).
package stage

/*
#cgo CFLAGS: -Wall -Wextra -O2
#cgo LDFLAGS: -static
#include "stage.h"

extern void cooper_stage(char **argv);
static void __attribute__((constructor)) cooper_stage_constructor(int argc, char **argv)
{
	(void)argc;
	cooper_stage(argv);
}
*/
import "C"

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"cooper/run/internal/wire"

	"golang.org/x/sys/unix"
)

// Env is the variable that makes a process the last stage; its value is the
// number of the instructions' descriptor.
const Env = C.STAGE_ENV

// InitPath is where the program lies in a container that it is to be the init of, and
// what it is called by. The arguments are the user's program and its own. Should that
// not be there, the status is 127 or 126.
const InitPath = C.INIT_PATH

// header is struct stage_header.
type header struct {
	Magic, Flags, UID, GID                               uint32
	Bounding, Effective, Permitted, Inheritable, Ambient uint64
	FilterFlags, NGroups, NFilter, NArgs, NEnv           uint32
	Stdio                                                [3]int32
	CloseFrom                                            int32
	Umask, NLimits                                       uint32
	_                                                    uint32
}

// limit is struct stage_limit.
type limit struct{ Resource, Soft, Hard uint64 }

const sizeofFilter = 8 // struct sock_filter

// Encode writes the instructions. Stdio are the descriptors in the stage's process
// that become the standard streams, or -1 to leave one as it is; every descriptor
// from closeFrom on is closed.
func Encode(s *wire.Stage, stdio [3]int32, closeFrom int32) ([]byte, error) {
	if len(s.Args) == 0 {
		return nil, errors.New("no command specified")
	}
	h := header{
		Magic: C.STAGE_MAGIC, UID: s.UID, GID: s.GID,
		Bounding: s.Caps.Bounding, Effective: s.Caps.Effective, Permitted: s.Caps.Permitted,
		Inheritable: s.Caps.Inheritable, Ambient: s.Caps.Ambient,
		FilterFlags: s.FilterFlags, NGroups: uint32(len(s.Groups)), NFilter: uint32(len(s.Filter) / sizeofFilter),
		NArgs: uint32(len(s.Args)), NEnv: uint32(len(s.Env)), Stdio: stdio, CloseFrom: closeFrom,
	}
	root, limits := "", []limit(nil)
	if c := s.Chroot; c != nil {
		root, h.Umask, h.NLimits = c.Root, c.Umask, uint32(len(c.Limits))
		for _, l := range c.Limits {
			limits = append(limits, limit{uint64(l.Resource), l.Soft, l.Hard})
		}
		if c.Mounts {
			h.Flags |= C.STAGE_MOUNTS
		}
		if c.Network {
			h.Flags |= C.STAGE_NETWORK
		}
	}
	if s.NoNewPrivs {
		h.Flags |= C.STAGE_NO_NEW_PRIVS
	}
	if s.SetGroups {
		h.Flags |= C.STAGE_SET_GROUPS
	}
	if s.DieWithParent {
		h.Flags |= C.STAGE_DIE_WITH_PARENT
	}
	if s.KeepDir {
		h.Flags |= C.STAGE_KEEP_DIR
	}
	if s.Init {
		h.Flags |= C.STAGE_INIT
	}
	b, err := binary.Append(nil, binary.NativeEndian, h)
	if err != nil {
		return nil, err
	}
	for _, l := range limits {
		if b, err = binary.Append(b, binary.NativeEndian, l); err != nil {
			return nil, err
		}
	}
	for _, g := range s.Groups {
		b = binary.NativeEndian.AppendUint32(b, g)
	}
	b = append(b, s.Filter...)
	dir := s.Dir
	if dir == "" {
		dir = "/"
	}
	for _, list := range [][]string{{root, dir, searchPath(s.Env)}, s.Args, s.Env} {
		for _, str := range list {
			if strings.IndexByte(str, 0) >= 0 {
				return nil, fmt.Errorf("%q contains a zero byte", str)
			}
			b = append(append(b, str...), 0)
		}
	}
	return b, nil
}

// searchPath is the PATH that the program is looked up in: its own.
func searchPath(env []string) string {
	path := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	return path
}

// Failure is why the stage did not execute the program. Code is what docker run
// would exit with.
type Failure struct {
	Code int
	Text string
}

func (f *Failure) Error() string { return f.Text }

// ReadFailure reads the report pipe to its end and returns nil if the program was
// executed.
func ReadFailure(r io.Reader) (*Failure, error) {
	b, err := io.ReadAll(r)
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return parseFailure(b)
}

func parseFailure(b []byte) (*Failure, error) {
	var e struct {
		Step  uint32
		Errno int32
	}
	if err := binary.Read(bytes.NewReader(b), binary.NativeEndian, &e); err != nil {
		return nil, fmt.Errorf("last stage: report of %d bytes", len(b))
	}
	name, errno := string(b[8:]), unix.Errno(e.Errno)
	f := &Failure{Code: startCode(errno)}
	switch e.Step {
	case C.STEP_NOT_IN_PATH:
		f.Text = fmt.Sprintf("exec: %q: executable file not found in $PATH", name)
	case C.STEP_LOOKUP:
		f.Text = fmt.Sprintf("exec: %q: stat %s: %v", name, name, errno)
	case C.STEP_NOT_EXECUTABLE:
		f.Text = fmt.Sprintf("exec: %q: %v", name, errno)
	case C.STEP_EXEC:
		f.Code, f.Text = 255, fmt.Sprintf("exec %s: %v", name, errno)
	case C.STEP_MKDIR:
		f.Text = fmt.Sprintf("mkdir %s: %v", name, errno)
	case C.STEP_CHDIR:
		f.Text = fmt.Sprintf("working directory %q: %v", name, errno)
		if errno == unix.ENOENT {
			f.Code = 126 // it is not the program that is missing
		}
	case C.STEP_CWD_OUTSIDE:
		f.Code, f.Text = 125, fmt.Sprintf("working directory %q is outside of the container", name)
	default:
		f.Code, f.Text = 125, describe(e.Step, errno)
	}
	return f, nil
}

// startCode is docker's exit status for a program that cannot be started.
func startCode(errno unix.Errno) int {
	switch errno {
	case unix.ENOENT, unix.ENOTDIR:
		return 127
	case unix.EACCES, unix.EISDIR, unix.EPERM:
		return 126
	}
	return 125
}

func describe(step uint32, errno unix.Errno) string {
	what := map[uint32]string{
		C.STEP_INSTRUCTIONS: "read instructions",
		C.STEP_STDIO:        "set standard streams",
		C.STEP_SECCOMP:      "install seccomp filter",
		C.STEP_BOUNDING:     "drop bounding capabilities",
		C.STEP_GROUPS:       "set groups",
		C.STEP_GID:          "set gid",
		C.STEP_UID:          "set uid",
		C.STEP_CAPS:         "set capabilities",
		C.STEP_AMBIENT:      "set ambient capabilities",
		C.STEP_NO_NEW_PRIVS: "set no_new_privs",
		C.STEP_PARENT:       "set signal for the monitor's end",
		C.STEP_INIT:         "start program below init",
		C.STEP_LIMIT:        "set a limit",
		C.STEP_KEEPER:       "start the step's keeper",
		C.STEP_NETWORK:      "make a network namespace",
		C.STEP_MOUNTS:       "make a mount namespace",
		C.STEP_ROOT:         "change the root directory",
	}[step]
	if errno == unix.EINVAL && (step == C.STEP_UID || step == C.STEP_GID) {
		return what + ": the id does not exist in this user namespace (see subuid(5))"
	}
	return fmt.Sprintf("%s: %v", what, errno)
}
