package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A run directory holds
//
//	lock                 held (flock) while leases, bridges or the nft table change
//	default.json         the default network's subnet, while it is in use
//	linger               held by the process that will remove what is unused
//	leases/ID.json       what the container of that id has: a lease
//	leases/ID.lock       held as long as the process lives that answers for it
//	subnets/SUBNET       the file of the network that has the subnet
//
// Everything in it can be deleted when no container runs.
type runDir string

// lease is what one container has been given.
type lease struct {
	ID, Name, Hostname string
	// Rootless leases are for a user's bridges, not the machine's.
	Rootless bool `json:",omitzero"`
	Places   []place
	Ports    []Port
}

// place is a container's place on one network.
type place struct {
	Network Network
	Aliases []string
	IP      netip.Addr
	IP6     netip.Addr `json:",omitzero"`
	MAC     string
	// Interface is the container's end, Link the host's.
	Interface, Link string
}

// status is what the container's state says of p.
func (p *place) status() Status {
	s := Status{
		Interface: p.Interface, MAC: p.MAC, Aliases: p.Aliases,
		IP: netip.PrefixFrom(p.IP, p.Network.Subnet.Bits()), Gateway: p.Network.Gateway,
	}
	if p.IP6.IsValid() {
		s.IP6, s.Gateway6 = netip.PrefixFrom(p.IP6, p.Network.Subnet6.Bits()), p.Network.Gateway6
	}
	return s
}

func (d runDir) leases() string        { return filepath.Join(string(d), "leases") }
func (d runDir) file(id string) string { return filepath.Join(d.leases(), id+".json") }
func (d runDir) lockFile(id string) string {
	return filepath.Join(d.leases(), id+".lock")
}

// lock takes the directory's lock, making the directory first. Closing the file
// releases it.
func (d runDir) lock() (*os.File, error) {
	for {
		f, err := d.tryLock()
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed just now, see remove
		case err != nil:
			return nil, fmt.Errorf("lock network leases: %w", err)
		case f != nil:
			return f, nil
		}
	}
}

// tryLock takes the lock and makes what is missing in the directory. It returns no
// file if the lock was removed before it was taken.
func (d runDir) tryLock() (*os.File, error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(string(d), "lock")
	f, err := lockedFile(path, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	if !isAt(f, path) {
		return nil, f.Close()
	}
	if err := os.MkdirAll(d.leases(), 0o700); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// isAt reports whether f is the file at path: it may have been removed before it was
// locked.
func isAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// remove removes the directory, if it keeps nothing any more. Its lock is held.
func (d runDir) remove() {
	for _, dir := range []string{d.leases(), d.subnets()} {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
	for _, name := range []string{"linger", "lock", ""} {
		_ = os.Remove(filepath.Join(string(d), name)) // next time then
	}
}

// lockedFile opens or makes a file and takes its lock in the way how.
func lockedFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err == nil {
			return f, nil
		}
		if err != unix.EINTR {
			f.Close()
			return nil, os.NewSyscallError("flock", err)
		}
	}
}

// write puts l in its file.
func (d runDir) write(l *lease) error { return writeJSON(d.file(l.ID), l) }

// writeJSON replaces a file at once.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// read returns the lease of a container; the error wraps fs.ErrNotExist when it has
// none.
func (d runDir) read(id string) (*lease, error) {
	b, err := os.ReadFile(d.file(id))
	if err != nil {
		return nil, err
	}
	l := new(lease)
	if err := json.Unmarshal(b, l); err != nil {
		return nil, fmt.Errorf("network lease %s: %w", d.file(id), err)
	}
	return l, nil
}

// list returns all leases. One that cannot be read counts as none.
func (d runDir) list() ([]*lease, error) {
	entries, err := os.ReadDir(d.leases())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []*lease
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		if l, err := d.read(id); err == nil {
			all = append(all, l)
		}
	}
	return all, nil
}

// living returns the leases of containers whose processes live, but for the one of id.
func (d runDir) living(id string) ([]*lease, error) {
	all, err := d.list()
	return slices.DeleteFunc(all, func(l *lease) bool { return l.ID == id || !d.alive(l.ID) }), err
}

// alive reports whether the process that answers for a lease lives.
func (d runDir) alive(id string) bool {
	f, err := os.Open(d.lockFile(id))
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == unix.EWOULDBLOCK
}

// forget removes the files of a lease.
func (d runDir) forget(id string) error {
	return errors.Join(remove(d.file(id)), remove(d.lockFile(id)))
}

// target is where published ports lead: the addresses on the first network that has
// a way out, or on the first at all.
func (l *lease) target() target {
	t := target{ID: l.ID}
	for i, p := range l.Places {
		if i == 0 || !p.Network.Internal {
			t.IP4, t.IP6 = p.IP, p.IP6
		}
		if !p.Network.Internal {
			break
		}
	}
	return t
}
