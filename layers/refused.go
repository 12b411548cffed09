package layers

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"cooper/layers/internal/userns"
)

// refused is why EnterUserNamespace went on without one.
var refused error

// Refused says why this process could not make a user namespace, and what to do
// about that; nil if it has one or did not want one.
func Refused() error { return refused }

// whyRefused looks for who refused a user namespace.
func whyRefused(errno syscall.Errno) error {
	switch {
	case os.Geteuid() == 0 && !mayMapIDs():
		return errors.New("root has no rights to map ids in a user namespace: leave it the capabilities that it has by default")
	case errno == unix.ENOSPC || errno == unix.EUSERS || is("/proc/sys/user/max_user_namespaces", "0"):
		return errors.New("the kernel's limit of user namespaces is reached: raise it (sysctl user.max_user_namespaces)")
	case errno == unix.EINVAL:
		return errors.New("this kernel has no user namespaces")
	case is("/proc/sys/kernel/unprivileged_userns_clone", "0"):
		return errors.New("user namespaces are switched off: switch them on (sysctl kernel.unprivileged_userns_clone=1)")
	case filtered():
		return errors.New("the seccomp profile of the container that this runs in forbids unshare: " +
			"start it with --security-opt seccomp=unconfined (Kubernetes: seccompProfile: {type: Unconfined})")
	case is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"):
		return errors.New("AppArmor forbids them: give this program a profile that allows userns, or sysctl kernel.apparmor_restrict_unprivileged_userns=0")
	}
	return fmt.Errorf("unshare says %w: in a chroot, or by a security module", errno)
}

// is reports whether a file holds this one word.
func is(file, word string) bool {
	b, err := os.ReadFile(file)
	return err == nil && string(bytes.TrimSpace(b)) == word
}

// filtered reports whether a seccomp filter is in force.
func filtered() bool {
	mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	return err == nil && mode == 2
}

// mayOwn reports whether this process may give files away and change its root
// directory: what unpacking a layer takes without a user namespace.
func mayOwn() bool {
	return hasCaps(unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_SYS_CHROOT)
}

// mayMapIDs reports whether root can give a user namespace the ids that it has.
func mayMapIDs() bool { return hasCaps(unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETFCAP) }

// hasCaps reports whether capabilities below 32 are in effect.
func hasCaps(caps ...int) bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return false
	}
	for _, c := range caps {
		if data[0].Effective&(1<<c) == 0 {
			return false
		}
	}
	return true
}

// WhySingleID says why SingleID is so and what to do about that.
func WhySingleID() string {
	switch userns.WhySingle() {
	case userns.NoRanges:
		return "the user has no range in /etc/subuid and /etc/subgid (usermod --add-subuids and --add-subgids)"
	case userns.NoTools:
		return "newuidmap and newgidmap are not installed (Debian: uidmap)"
	case userns.ToolsFailed:
		if set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && set == 1 {
			return "newuidmap gets no rights here (no_new_privs; Kubernetes: allowPrivilegeEscalation: true)"
		}
		return "newuidmap or newgidmap failed; in a container they want file capabilities in place of setuid (setcap cap_setuid=ep, cap_setgid=ep)"
	}
	return "see subuid(5)"
}
