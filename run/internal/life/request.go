package life

import (
	"time"

	"cooper/run/internal/network"
	"cooper/run/internal/wire"
)

// KindStart makes a runner the monitor of one container: Request, with the files
// that it names. The answer is KindConsole or KindStdin if the request asks for
// them, then wire.KindStarted, then wire.KindEnded when the container has ended for
// good; or wire.KindEnded alone with a Code if it could not be started.
const KindStart wire.Kind = 20

// AnyNamespace is the path of a namespace that the monitor makes, as long as it is
// not made. HostGateway in /etc/hosts stands for the host's address there.
const (
	AnyNamespace = "/proc/self/ns/net"
	HostGateway  = "host-gateway"
)

// Request asks for a container with a monitor of its own. File indices are of the
// message's files; see wire.NoFile.
type Request struct {
	// Run is the container. Its standard streams are used when Foreground;
	// otherwise the monitor makes them.
	Run  wire.Run
	Name string
	// Dir is the container's directory, Lock its locked lock and Listener
	// the listening control socket.
	Dir, Lock, Listener int
	// Foreground: the container ends with the connection that this came by.
	Foreground bool
	// Attach are the streams of the command that starts it; nil attaches none.
	Attach *Attach
	// OpenStdin: the container has a standard input, StdinOnce: which is
	// closed when the first attached command leaves.
	OpenStdin, StdinOnce bool
	// State is the state to go on from.
	State State

	Log     LogConfig
	Health  *HealthConfig
	Restart RestartPolicy
	// Network is set up before the container starts; nil leaves the
	// namespaces as Run has them. JoinedNetwork is a namespace to be
	// reported as NetworkPath instead.
	Network       *network.Request
	JoinedNetwork string
	// StopSignal and StopTimeout are what stops the container when nothing
	// else is said; Timeout ends it after that long, 0 means never.
	StopSignal  int
	StopTimeout time.Duration
	Timeout     time.Duration
	// PIDFile gets the first process's id at every start; "" means none.
	PIDFile string
	// Remover is executed in the end, when the command that started the
	// container is gone, with Environment: it removes the container.
	Remover     []string
	Environment []string
	// Journal is the events' file; Attributes are those of every event.
	Journal    string
	Attributes map[string]string
}

// Attach connects a command's output with a container's: Stdout and Stderr are
// indices of files to write to, or wire.NoFile. Input asks for a file in return.
// Lasting output stays connected when the command leaves.
type Attach struct {
	Stdout, Stderr int
	Input, Lasting bool
}
