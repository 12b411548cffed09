package run

import (
	"io"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

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

// ResizeTerminal sets the size of a terminal (or of its master end) in characters.
func ResizeTerminal(f *os.File, width, height uint16) error {
	return unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
}

// terminalSize is 0, 0 for a file that is no terminal.
func terminalSize(f *os.File) (width, height uint16) {
	if f == nil {
		return 0, 0
	}
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return ws.Col, ws.Row
}

// size is the container's terminal's first one.
func (c *Console) size(t *Task) (width, height uint16) {
	if c != nil && c.Width != 0 && c.Height != 0 {
		return c.Width, c.Height
	}
	if w, h := terminalSize(t.Stdout); w != 0 && h != 0 {
		return w, h
	}
	return terminalSize(t.Stdin)
}

// attachment connects a container's terminal with a task's streams.
type attachment struct {
	t *Task

	mu      sync.Mutex
	master  *os.File
	ended   bool
	restore func()
	stop    *os.File // closing it ends the copying of input
	winch   chan os.Signal
	in, out sync.WaitGroup
}

// attach is called with the master end when the container has made its terminal.
func (a *attachment) attach(master *os.File) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		master.Close()
		return
	}
	a.master = master
	if in := a.t.Stdin; in != nil {
		if state, err := term.MakeRaw(int(in.Fd())); err == nil {
			a.restore = func() { term.Restore(int(in.Fd()), state) }
		}
		if r, w, err := os.Pipe(); err == nil {
			a.stop = w
			a.in.Go(func() {
				defer r.Close()
				copyUntil(master, in, r)
				if !term.IsTerminal(int(in.Fd())) {
					master.Write([]byte{4}) // end of a file or pipe: as Ctrl-D
				}
			})
		}
	}
	if out := a.t.Stdout; out != nil {
		a.follow(out)
		a.out.Go(func() { io.Copy(out, master) }) // ends with EIO
	} else {
		a.out.Go(func() { io.Copy(io.Discard, master) })
	}
}

// follow keeps the container's terminal as large as ours.
func (a *attachment) follow(out *os.File) {
	if !term.IsTerminal(int(out.Fd())) {
		return
	}
	a.winch = make(chan os.Signal, 1)
	signal.Notify(a.winch, unix.SIGWINCH)
	resize := func() {
		if w, h := terminalSize(out); w != 0 {
			ResizeTerminal(a.master, w, h)
		}
	}
	resize() // it may have changed since the request
	a.in.Go(func() {
		for range a.winch {
			resize()
		}
	})
}

// end is called when the container is gone: it waits for the last output and gives
// our terminal its mode back.
func (a *attachment) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	if a.master == nil {
		return
	}
	if a.stop != nil {
		a.stop.Close()
	}
	if a.winch != nil {
		signal.Stop(a.winch)
		close(a.winch)
	}
	a.out.Wait()
	a.in.Wait()
	if a.restore != nil {
		a.restore()
	}
	a.master.Close()
}
