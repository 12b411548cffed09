// Package rootless is imported for its effect by commands that always need the
// store: an ordinary user's process is then in its user namespace before Go
// starts, which saves starting the program twice. layers.EnterUserNamespace is
// still called, and works without this package too.
package rootless

import "C"

import _ "cooper/layers/internal/userns" // acts on early.c
