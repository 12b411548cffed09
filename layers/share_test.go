package layers

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// showNamespace prints the user namespace that the process is in and ends with its
// standard input.
func showNamespace() {
	ns, err := os.Readlink("/proc/self/ns/user")
	fmt.Println(ns, err)
	if pid, err := strconv.Atoi(os.Getenv("COOPER_TEST_NAMESPACE")); err == nil && pid > 1 {
		fmt.Println("registered", KeepUserNamespace(pid))
	}
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// member is a process of an ordinary user in its user namespace.
type member struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
	// ns is what showNamespace printed.
	ns string
}

func (s *member) end() {
	s.stdin.Close()
	s.cmd.Wait()
}

// crowd starts such processes, all with one register.
type crowd struct {
	t        *testing.T
	exe      string
	runtime  string
	uid, gid uint32
}

func newCrowd(t *testing.T) *crowd {
	if os.Getuid() != 0 || Rootless() {
		t.Skip("needs root, to become another user")
	}
	u, err := user.Lookup(cmp.Or(os.Getenv("STAGE_USER"), "cooper-test"))
	if err != nil {
		t.Skip(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	s := &crowd{t: t, exe: publicCopy(t), uid: uint32(uid), gid: uint32(gid)}
	s.runtime = filepath.Join(filepath.Dir(s.exe), "runtime")
	if err := os.Mkdir(s.runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(s.runtime, uid, gid); err != nil {
		t.Fatal(err)
	}
	return s
}

// start starts one and returns when it has said where it is.
func (s *crowd) start(env ...string) *member {
	s.t.Helper()
	cmd := exec.Command(s.exe)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "XDG_RUNTIME_DIR=" + s.runtime, "COOPER_TEST_NAMESPACE=1"}, env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.uid, Gid: s.gid}}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	p := &member{cmd: cmd, stdin: stdin, out: bufio.NewReader(stdout)}
	p.ns, err = p.out.ReadString('\n')
	if err != nil || !strings.HasSuffix(p.ns, " <nil>\n") {
		s.t.Errorf("namespace %q: %v", p.ns, err)
	}
	return p
}

// links are the names in the register.
func (s *crowd) links() []string {
	names, err := filepath.Glob(filepath.Join(s.runtime, "cooper-*", "userns", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return names
}

func TestNamespaceIsSharedWhileOneLives(t *testing.T) {
	s := newCrowd(t)
	first := s.start()
	second := s.start()
	if second.ns != first.ns {
		t.Errorf("second process is in %q, the first in %q", second.ns, first.ns)
	}
	single := s.start("PATH=/nonexistent")
	if single.ns == first.ns {
		t.Error("a process without newuidmap joined a namespace with ranges")
	}
	single.end()
	first.end()
	third := s.start()
	if third.ns != second.ns {
		t.Error("third process did not join the second's namespace")
	}
	if n := len(s.links()); n != 2 {
		t.Errorf("register has %d links, want 2: %q", n, s.links())
	}
	third.end()
	second.end()
	fourth := s.start()
	if fourth.ns == second.ns {
		t.Error("the namespace outlived all of its processes")
	}
	fourth.end()
}

func TestNamespaceIsMadeOnceByMany(t *testing.T) {
	s := newCrowd(t)
	processes := make([]*member, 12)
	var wg sync.WaitGroup
	for i := range processes {
		wg.Go(func() { processes[i] = s.start() })
	}
	wg.Wait()
	for _, p := range processes {
		if p.ns != processes[0].ns {
			t.Errorf("a process is in %q, the first in %q", p.ns, processes[0].ns)
		}
	}
	for _, p := range processes {
		p.end()
	}
}

// TestNamespaceIsKeptForAnother: a command registers its monitor, which holds the
// namespace when the command is gone.
func TestNamespaceIsKeptForAnother(t *testing.T) {
	s := newCrowd(t)
	monitor := s.start()
	for _, link := range s.links() {
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	stranger := s.start()
	if stranger.ns == monitor.ns {
		t.Fatal("joined a namespace that is not registered")
	}
	stranger.end()
	// It registers a process which is not in its namespace: that is what the
	// next one joins, so it shows that the link was followed.
	command := s.start("COOPER_TEST_NAMESPACE=" + strconv.Itoa(monitor.cmd.Process.Pid))
	if line, err := command.out.ReadString('\n'); line != "registered <nil>\n" {
		t.Errorf("KeepUserNamespace: %q, %v", line, err)
	}
	command.end()
	last := s.start()
	if last.ns != monitor.ns {
		t.Error("the namespace of a registered process was not joined")
	}
	last.end()
	monitor.end()
}

// TestNamespaceOfStrangers: nothing that others can write to is believed.
func TestNamespaceOfStrangers(t *testing.T) {
	s := newCrowd(t)
	dir := filepath.Join(s.runtime, "cooper-"+strconv.Itoa(int(s.uid)))
	if err := os.MkdirAll(filepath.Join(dir, "userns"), 0o777); err != nil { // root's
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "userns"), 0o777); err != nil {
		t.Fatal(err)
	}
	p := s.start()
	if n := len(s.links()); n != 0 {
		t.Errorf("registered in a directory of somebody else: %q", s.links())
	}
	p.end()
}
