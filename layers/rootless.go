package layers

import (
	"os"

	"go.podman.io/storage/pkg/reexec"
	"go.podman.io/storage/pkg/unshare"
)

// Init must be the first call in main. When the process was started by the
// storage library as one of its helpers, Init does that work and exits.
func Init() {
	if reexec.Init() {
		os.Exit(0)
	}
}

// EnterUserNamespace makes an ordinary user root of a new user namespace with
// the user's subordinate ids, or with the user's own id alone when there are
// none (SingleID). It is called after Init and before any goroutine or open
// file matters, since it may start the program again. For root it does nothing.
func EnterUserNamespace() error {
	unshare.MaybeReexecUsingUserNamespace(false)
	return nil
}

// Rootless reports whether the process is an ordinary user's, in or before the
// user namespace of EnterUserNamespace.
func Rootless() bool { return unshare.IsRootless() }

// SingleID reports whether the user namespace holds one id only: files can
// belong to no other owner and chown to one fails.
func SingleID() bool { return false }
