// Package chroot gets a root directory ready for a process that is in no container,
// and takes away again what it has added.
//
// Mount mounts what a container would have, for a runner with a mount namespace.
// Furnish, where nothing can be mounted, makes device nodes and copies of small
// files in the directory itself; what was in their place is kept beside the
// directory and put back.
package chroot
