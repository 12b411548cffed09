package runner

import (
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// argumentBytes is the memory that this process's arguments are in, one after the
// other with zero bytes between: what ps shows. Package spawn starts runners with
// some to spare.
var argumentBytes = sync.OnceValue(func() []byte {
	room := 0
	for _, a := range os.Args {
		room += len(a) + 1
	}
	return unsafe.Slice(unsafe.StringData(os.Args[0]), room)
})

// setTitle changes what ps shows for this process.
func setTitle(title string) {
	args := argumentBytes()
	clear(args)
	copy(args[:len(args)-1], title)
	os.Args = []string{title}
	name, err := unix.BytePtrFromString(title)
	if err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0) // a nicety
	}
}
