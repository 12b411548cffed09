// Package life is what a container's monitor and the commands tell each other: the
// state that the monitor writes, the request that makes it one, and the messages on
// its control socket.
//
// A control connection begins with one message of the command, which says what it
// is about. Most are answered by one KindDone and closed by the monitor. Attach,
// Exec and Watch last until one side closes: see their types.
package life
