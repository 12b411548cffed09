package wire

import (
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Kind is what a message is about; the comment names the body's type and files.
type Kind uint32

// Messages to the runner.
const (
	// KindRun starts a container: Run, with the files that Run names.
	KindRun Kind = iota + 1
	// KindSignal sends a signal to a container's first process: Signal.
	KindSignal
)

// Messages from the runner.
const (
	// KindConsole hands over the container's terminal: Event, one file.
	KindConsole Kind = iota + 100
	// KindStarted says that the user's program has been executed: Event
	// with PID and Cgroups, and a pidfd.
	KindStarted
	// KindEnded is the last message about a container, sent when nothing of
	// it is left: Event.
	KindEnded
	// KindLog is a line for the log: Log.
	KindLog
	// KindSpare says that a container was prepared ahead: Event with Cgroups.
	KindSpare
)

// NoFile is the index of a file that was not sent.
const NoFile = -1

// Run asks for one container.
type Run struct {
	// Call identifies the container in all later messages.
	Call uint64
	// ID is the container's id, for its cgroup and directory.
	ID   string
	Spec *specs.Spec
	// RootlessCgroups: cgroups may be refused and errors about them are ignored.
	RootlessCgroups bool
	// NoCgroup: none is tried.
	NoCgroup bool
	// NoKeyring: keyrings are forbidden. NoPivot: pivot_root(2) is.
	NoKeyring bool `json:",omitempty"`
	NoPivot   bool `json:",omitempty"`
	// Command is another OCI runtime, which gets the whole Spec; nil means
	// that the runner makes the container itself, with the Stage.
	Command *Command `json:",omitempty"`
	Rootfs  Rootfs
	// Stubs are mount points that the root file system lacks.
	Stubs []Stub
	// Files are provided for the run by bind mounts.
	Files []File
	// Trees are bound into the container.
	Trees []Tree
	// Stdio are indices of the message's files, or NoFile.
	Stdio [3]int
	// Stage is the program of the container's last stage (see package stage),
	// without the standard streams' part.
	Stage Stage
	// Another container like this one is likely to follow: its start may begin.
	Another bool
	// UIDs and GIDs are the ids of the container's own user namespace; empty means
	// that it is in this process's.
	UIDs, GIDs []specs.LinuxIDMapping `json:",omitempty"`
	// Width and Height of the terminal, if the spec has one.
	Width, Height uint16
}

// Command is the command of an OCI runtime.
type Command struct {
	// Path is the program, Flags come before all others.
	Path  string
	Flags []string
	// Dir holds its state and the bundle, in the end nothing; "" means that
	// nobody but the runner needs to find them.
	Dir string
	// Init puts a small init above the program.
	Init bool `json:",omitempty"`
}

// Rootfs says what to mount.
type Rootfs struct {
	// Lower directories, top first, and for each the index of the message's
	// file that is the same directory, or NoFile. With a file the path is
	// only a hint: the directory may have been renamed since.
	Lower     []string
	LowerFile []int
	// Data are the data-only directories below them.
	Data []string `json:",omitempty"`
	// MapLower mounts Lower with the owners of the container's user namespace.
	MapLower bool `json:",omitempty"`
	Upper    string
	Work     string
	Options  []string
	// Dir is used as it is when it is not empty.
	Dir string
}

// Stub is a mount point to be made: an empty directory or file.
type Stub struct {
	// Path is relative to the root and free of symbolic links.
	Path string
	Dir  bool
}

// File is a small file mounted into the container.
type File struct {
	// Path is absolute in the container.
	Path     string
	Data     []byte
	Mode     uint32
	UID, GID uint32
}

// Tree is a further root file system of which Path is bound to Target.
type Tree struct {
	Rootfs   Rootfs
	Path     string
	Target   string
	ReadOnly bool
	// Live resolves Path in the directory Rootfs.Dir when it is mounted.
	Live bool `json:",omitempty"`
	// Stubs are mount points for other mounts below Target, relative to the
	// tree's root.
	Stubs []Stub
}

// Stage is what the last stage does with itself before it executes the program.
type Stage struct {
	Args, Env  []string
	Dir        string
	UID, GID   uint32
	Groups     []uint32
	SetGroups  bool
	NoNewPrivs bool
	// DieWithParent ends the program with the thread that started it.
	DieWithParent bool `json:",omitempty"`
	// KeepDir leaves a working directory that is missing so, which is an error.
	KeepDir bool `json:",omitempty"`
	// Init keeps a small init above the program.
	Init        bool `json:",omitempty"`
	Caps        Caps
	Filter      []byte // struct sock_filter each, native byte order; empty = none
	FilterFlags uint32
	// Chroot is set for a process that is in no container.
	Chroot *Chroot `json:",omitempty"`
}

// Chroot is what the last stage does in a container's place.
type Chroot struct {
	// Mounts: it gets a mount namespace in which Root, which is a mount, is
	// the root. Otherwise nothing can be mounted, and Root is a directory that
	// only chroot(2) is called for.
	Mounts bool
	// Root is filled in by the runner.
	Root string
	// Network gives it a network namespace without a way out.
	Network bool
	Umask   uint32
	Limits  []Limit
}

// Limit is one resource limit, by the kernel's number.
type Limit struct {
	Resource   int
	Soft, Hard uint64
}

// Caps are sets of capability numbers as bits.
type Caps struct {
	Bounding, Effective, Permitted, Inheritable, Ambient uint64
}

// Signal asks for a signal. KillAll also ends every other process of the
// container where that can be done.
type Signal struct {
	Call   uint64
	Signal int
}

// Event reports about a container.
type Event struct {
	Call uint64
	PID  int
	// Cgroups are the directories to remove if the runner dies.
	Cgroups []string
	// Code is a StartError's code; 0 if the program was started.
	Code int
	// Error is why the program was not started, or (with Code 0) what went
	// wrong in removing the container.
	Error             string
	ExitCode          int
	Signal            int
	OOMKilled         bool
	Started, Finished time.Time
}

// Log is a line for the log.
type Log struct {
	Level   string
	Message string
}
