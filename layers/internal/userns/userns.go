// Package userns puts an ordinary user's process into a user namespace in which
// it is root.
//
// A process may only do that while it has a single thread, which a Go program
// never has. Others start themselves again in the new namespace and wait for
// that second process. Here C code runs before Go does and moves the very
// process: nothing is started twice, no signal has to be passed on, and
// /proc/self/exe stays what it is. The subordinate ids of /etc/subuid and
// /etc/subgid are mapped by newuidmap and newgidmap side by side, by podman's
// rules, so that both see the same owners in the same store. Without ranges or
// without these programs only the user's own id is mapped.
//
// While another process of the user is in such a namespace, it is joined instead:
// see share.c. All containers of a user are then in one namespace, whichever
// commands started them.
//
// The C code acts when package cooper/layers/rootless is linked in, or when the
// variable _COOPER_USERNS is set, which is how Enter asks for it.
package userns

// #include "userns.h"
import "C"

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// askVariable asks the C code of the next program to act.
const askVariable = "_COOPER_USERNS"

// storageVariables are what the storage library wants to know. The C code has
// set them, but Go has its own copy of the environment.
var storageVariables = []string{"_CONTAINERS_USERNS_CONFIGURED", "_CONTAINERS_ROOTLESS_UID", "_CONTAINERS_ROOTLESS_GID"}

// Enter makes sure that the process is root of a user namespace. If the C code
// has not acted yet, it executes the program once more in the same process.
func Enter() error {
	switch C.cooper_userns_state {
	case C.COOPER_USERNS_ENTERED:
		os.Unsetenv(askVariable)
		return announce()
	case C.COOPER_USERNS_REFUSED:
		os.Unsetenv(askVariable)
		return Refusal{syscall.Errno(C.cooper_userns_errno)}
	case C.COOPER_USERNS_FAILED:
		return fmt.Errorf("map ids in a user namespace: %w", syscall.Errno(C.cooper_userns_errno))
	}
	if os.Getenv(askVariable) != "" {
		return os.Unsetenv(askVariable) // it saw no need, or no way
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("enter a user namespace: %w", err)
	}
	env := append(os.Environ(), askVariable+"=1")
	return fmt.Errorf("enter a user namespace: start %s again: %w", exe, unix.Exec(exe, os.Args, env))
}

// announce copies the variables into Go's environment.
func announce() error {
	for _, name := range storageVariables {
		if err := os.Setenv(name, cgetenv(name)); err != nil {
			return err
		}
	}
	return nil
}

// Entered reports whether the C code has moved the process into a namespace.
func Entered() bool { return C.cooper_userns_state == C.COOPER_USERNS_ENTERED }

// Refusal is the kernel's error when it makes no user namespace: the process is what
// it was.
type Refusal struct{ syscall.Errno }

// Single is why the namespace has one id only.
type Single int

// Reasons. Unknown: it has more, or was made by another process, which is joined.
const (
	Unknown     Single = C.COOPER_USERNS_SINGLE_UNKNOWN
	NoRanges    Single = C.COOPER_USERNS_SINGLE_NO_RANGES
	NoTools     Single = C.COOPER_USERNS_SINGLE_NO_TOOLS
	ToolsFailed Single = C.COOPER_USERNS_SINGLE_TOOLS_FAILED
)

// WhySingle returns the reason.
func WhySingle() Single { return Single(C.cooper_userns_single) }

// Register lets later commands join this process's namespace as long as the
// process pid lives, which is in the same one; start is when it was started, field
// 22 of /proc/PID/stat. When this process is not registered, there is nothing to do.
func Register(pid int, start uint64) error {
	own := C.GoString(C.cooper_userns_link)
	if own == "" {
		return nil
	}
	key, err := os.Readlink(own)
	if err == nil {
		err = os.Symlink(key, filepath.Join(filepath.Dir(own), fmt.Sprintf("%d-%d", pid, start)))
	}
	if err != nil {
		return fmt.Errorf("register process %d in the user namespace: %w", pid, err)
	}
	return nil
}
