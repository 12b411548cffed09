package userns

// #include <stdlib.h>
import "C"

import "unsafe"

// cgetenv asks C's environment.
func cgetenv(name string) string {
	key := C.CString(name)
	defer C.free(unsafe.Pointer(key))
	return C.GoString(C.getenv(key))
}
