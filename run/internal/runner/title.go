package runner

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setTitle changes what ps shows for this process. It has the room that its
// arguments took: package spawn starts it with some to spare.
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
	name, err := unix.BytePtrFromString(title)
	if err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0) // a nicety
	}
}
