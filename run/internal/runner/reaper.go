package runner

import (
	"os"
	"os/signal"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reaper collects the children of this process that nobody waits for: what other OCI
// runtimes leave behind beside the process that they were to start. One that is not
// collected would keep the container's first process from ending, where it is in the
// same process id namespace.
type reaper struct {
	once sync.Once
	// calls is held for reading while children are started or waited for that
	// are not expected yet.
	calls sync.RWMutex

	mu       sync.Mutex
	expected map[int]bool // by process id
}

// start starts the reaper, if it has not been.
func (r *reaper) start() {
	r.once.Do(func() {
		r.expected = make(map[int]bool)
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, unix.SIGCHLD)
		go func() {
			for range ended {
				for r.collect() {
					time.Sleep(5 * time.Millisecond)
				}
			}
		}()
	})
}

// expect says that somebody will wait for a child. It is called with calls held.
func (r *reaper) expect(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expected[pid] = true
}

// collected says that somebody has waited for a child.
func (r *reaper) collected(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.expected, pid)
}

// collect collects all that have ended, up to one that is expected: then it is to be
// called again.
func (r *reaper) collect() (again bool) {
	r.calls.Lock()
	defer r.calls.Unlock()
	for {
		pid := endedChild()
		if pid <= 0 {
			return false
		}
		r.mu.Lock()
		expected := r.expected[pid]
		r.mu.Unlock()
		if expected {
			return true
		}
		if _, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err != nil {
			return false // somebody else was faster
		}
	}
}

// childInfo is the kernel's siginfo_t of a child.
type childInfo struct {
	signo, errno, code int32
	_                  [unsafe.Sizeof(uintptr(0)) - 4]byte
	pid                int32
	_                  [128 - 12 - unsafe.Sizeof(uintptr(0))]byte
}

// endedChild is a child that has ended and stays to be collected; 0 if there is none.
func endedChild() int {
	var info childInfo
	err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err != nil {
		return 0
	}
	return int(info.pid)
}
