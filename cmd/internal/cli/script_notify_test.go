package cli_test

import (
	"net"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// listenNotify FILE is systemd's part for a service of type notify: NOTIFY_SOCKET
// is a socket from now on, and each message sent to it is appended to FILE with an
// empty line after it.
func listenNotify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: notify file")
	}
	dir, err := os.MkdirTemp("", "n") // a socket's path has 107 bytes at most
	ts.Check(err)
	ts.Defer(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	ts.Check(err)
	ts.Defer(func() { conn.Close() })
	ts.Check(os.Chmod(socket, 0o777))
	ts.Check(os.Chmod(dir, 0o755))
	file, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Setenv("NOTIFY_SOCKET", socket)
	go func() {
		defer file.Close()
		message := make([]byte, 4096)
		for {
			n, err := conn.Read(message)
			if err != nil {
				return
			}
			if _, err := file.Write(append(message[:n:n], "\n\n"...)); err != nil {
				return
			}
		}
	}()
}
