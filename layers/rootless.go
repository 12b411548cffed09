package layers

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"cooper/layers/internal/userns"

	"github.com/sirupsen/logrus"
	"go.podman.io/storage/pkg/reexec"
	"go.podman.io/storage/pkg/unshare"
)

// Init must be the first call in main. When the process was started by the
// storage library as one of its helpers, Init does that work and exits. It also
// silences the library's own log, whose messages return as errors anyway.
func Init() {
	logrus.SetOutput(io.Discard)
	if reexec.Init() {
		os.Exit(0)
	}
}

// EnterUserNamespace makes an ordinary user root of a user namespace with the
// user's subordinate ids, or with the user's own id alone when there are none or
// no newuidmap and newgidmap (SingleID). While another process of the user is in
// such a namespace, that is the one. It is called right after Init,
// since it may execute the program anew in the same process; importing
// cooper/layers/rootless avoids that. For root it does nothing, except for root
// without CAP_SYS_ADMIN, as in a container, who gets a namespace if allowed, and
// otherwise goes on with the rights to own files: see Refused.
func EnterUserNamespace() error {
	if os.Geteuid() == 0 && !userns.Entered() {
		capable, err := unshare.HasCapSysAdmin()
		if err != nil {
			return fmt.Errorf("enter a user namespace: %w", err)
		}
		if capable {
			return nil
		}
	}
	err := userns.Enter()
	var refusal userns.Refusal
	if !errors.As(err, &refusal) {
		return err
	}
	refused = whyRefused(refusal.Errno)
	switch {
	case os.Geteuid() == 0 && !mayOwn():
		return errors.New("root without capabilities can neither own files nor make a user namespace: " +
			"leave it those that it has by default (Kubernetes: no capabilities.drop: [ALL])")
	case os.Geteuid() == 0:
		return nil
	case filtered():
		return fmt.Errorf("an ordinary user needs a user namespace, and %w, or run as its root (docker run --user 0; Kubernetes: runAsUser: 0)", refused)
	}
	return fmt.Errorf("an ordinary user needs a user namespace, and %w", refused)
}

// Rootless reports whether the process is an ordinary user's, in or before the
// user namespace of EnterUserNamespace.
func Rootless() bool { return unshare.IsRootless() }

// SingleID reports whether the user namespace holds one id only: files can
// belong to no other owner and chown to one fails.
func SingleID() bool { return singleID() }

var singleID = sync.OnceValue(func() bool {
	f, err := os.Open("/proc/self/uid_map")
	if err != nil {
		return false
	}
	defer f.Close()
	total := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var inside, outside, count int
		if _, err := fmt.Sscan(lines.Text(), &inside, &outside, &count); err != nil {
			return false
		}
		total += count
	}
	return total == 1
})

// KeepUserNamespace makes later commands of this user join this process's user
// namespace as long as the process pid lives, which is in the same one. For root
// it does nothing.
func KeepUserNamespace(pid int) error {
	start, err := startTime(pid)
	if err != nil {
		return fmt.Errorf("keep the user namespace: %w", err)
	}
	return userns.Register(pid, start)
}

// startTime is field 22 of /proc/PID/stat. The second, a name in parentheses, may
// hold anything.
func startTime(pid int) (uint64, error) {
	name := fmt.Sprintf("/proc/%d/stat", pid)
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("%s has %d fields", name, len(fields)+2)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
