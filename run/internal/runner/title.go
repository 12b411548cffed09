package runner

import (
	"os"
	"strings"
	"sync"
	"unsafe"
)

// arguments is the memory that ps shows: the arguments lie one after the other on the
// stack, zero bytes between.
var arguments = sync.OnceValue(func() []byte {
	room := 0
	for _, a := range os.Args {
		room += len(a) + 1
	}
	return unsafe.Slice(unsafe.StringData(os.Args[0]), room)
})

// setTitle changes what ps shows for this process: the arguments, and the first
// word as the command. It has the room that its arguments took: package spawn starts
// it with some to spare.
func setTitle(title string) {
	args := arguments()
	clear(args)
	copy(args[:len(args)-1], title)
	os.Args = []string{title}
	// The command is the main thread's name, and this may be another thread.
	name, _, _ := strings.Cut(title, " ")
	_ = os.WriteFile("/proc/self/comm", []byte(name), 0) // a nicety
}
