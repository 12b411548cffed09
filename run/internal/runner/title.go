package runner

import (
	"os"
	"strings"
	"unsafe"
)

// setTitle changes what ps shows for this process: the arguments, and the first
// word as the command. It has the room that its arguments took: package spawn starts
// it with some to spare.
func setTitle(title string) {
	room := 0
	for _, a := range os.Args {
		room += len(a) + 1
	}
	// The arguments lie one after the other on the stack, zero bytes between.
	args := unsafe.Slice(unsafe.StringData(os.Args[0]), room)
	clear(args)
	copy(args[:room-1], title)
	os.Args = []string{title}
	// The command is the main thread's name, and this may be another thread.
	name, _, _ := strings.Cut(title, " ")
	_ = os.WriteFile("/proc/self/comm", []byte(name), 0) // a nicety
}
