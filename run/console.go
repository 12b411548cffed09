package run

import "os"

// Console says how a container's terminal is connected.
type Console struct {
	// Width and Height are the first size in characters; 0 means that of
	// Task.Stdout if it is a terminal.
	Width, Height uint16
	// Ready receives the other end of the container's terminal before the
	// program starts and owns it; nil means that Run copies between it and
	// Task.Stdin and Stdout, in raw mode and with the size following if
	// those are terminals.
	Ready func(master *os.File)
}
