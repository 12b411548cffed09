package life

import (
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"cooper/run/internal/network"
	"cooper/run/internal/wire"
)

// SocketFile is the control socket's name in the container's runtime directory.
const SocketFile = "ctl"

// Messages of a command on the control socket.
const (
	// KindKill sends a signal to the first process: Kill. Answer: Done.
	KindKill wire.Kind = iota + 200
	// KindStop stops the container: Stop. Answer: Done, when it has ended.
	KindStop
	// KindRestart stops it and starts it again: Stop. Answer: Done.
	KindRestart
	// KindPause and KindResume have no body. Answer: Done.
	KindPause
	KindResume
	// KindUpdate changes limits and the restart policy: Update. Answer: Done.
	KindUpdate
	// KindAttach connects streams: Attach with files. Answer: Done; then, if
	// asked for, KindStdin; in the end wire.KindEnded. Closing the connection
	// detaches.
	KindAttach
	// KindCloseStdin, on a connection that has attached, ends the input.
	KindCloseStdin
	// KindExec runs a further process: Exec with files. Answer: KindConsole
	// if it has a terminal, wire.KindStarted, wire.KindEnded. KindKill
	// on the same connection is for that process. It outlives the
	// connection.
	KindExec
	// KindWatch asks for the state now and after every change: KindState,
	// until the monitor ends.
	KindWatch
	// KindRoot asks for the container's root directory. Answer: Done, one file.
	KindRoot
	// KindConnect adds a network: network.Attachment; KindDisconnect takes
	// one away: its name as a string. Answer: Done.
	KindConnect
	KindDisconnect
	// KindCheck runs the health check now. Answer: Done, then KindState.
	KindCheck
	// KindRename tells the monitor the container's new name, a string.
	// Answer: Done.
	KindRename
)

// Answers of the monitor.
const (
	// KindDone ends a request: Done.
	KindDone wire.Kind = iota + 300
	// KindState is the present state: State.
	KindState
	// KindStdin hands over the container's standard input, or the other end
	// of its terminal: no body, one file.
	KindStdin
	// KindWarning, to who starts the container, is for the user: a string.
	KindWarning
)

// Done says how a request went; Error "" means well.
type Done struct {
	Error string
	// NotRunning: the request was for a running container.
	NotRunning bool
}

// Kill is a signal's number.
type Kill struct{ Signal int }

// Stop says how long to wait before SIGKILL; a negative Grace means for ever.
type Stop struct {
	Grace time.Duration
	// Signal 0 means the container's own.
	Signal int
}

// Update is what update changes; nil means no change.
type Update struct {
	Resources *specs.LinuxResources
	Restart   *RestartPolicy
}

// Exec asks for a further process in the container.
type Exec struct {
	Stage wire.Stage
	// Process is for another OCI runtime, instead of Stage.
	Process *specs.Process `json:",omitempty"`
	// Stdio are indices of the message's files, or wire.NoFile.
	Stdio [3]int
	// Terminal gives it a terminal, of Width and Height if they are not 0.
	Terminal      bool
	Width, Height uint16
}

// Attachment is the body of KindConnect.
type Attachment = network.Attachment
