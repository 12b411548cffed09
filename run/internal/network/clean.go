package network

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Leave removes bridges and the nft table when nobody uses them any more. A monitor
// calls it last, after its container's end has been reported.
//
// A user's bridges end with the user's network process: then this does nothing.
func Leave(r *Request) error {
	if r.Rootless {
		return nil
	}
	return Sweep(r.RunDir)
}

// lingering is how long bridges stay when the last container has gone.
const lingering = time.Second

// Linger does the same when nobody has used them for a second. It is for containers
// that are started one after the other: to make and remove a bridge takes longer than
// to start a container. One process does it for all, the others return at once.
func Linger(ctx context.Context, r *Request) error {
	d := runDir(r.RunDir)
	if r.Rootless {
		return nil
	}
	f, err := lockedFile(filepath.Join(r.RunDir, "linger"), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	d.awaitSwept(ctx)
	f.Close() // before looking: who ends from now on looks again
	return Sweep(r.RunDir)
}

// awaitSwept returns after a while, or when somebody else has swept up.
func (d runDir) awaitSwept(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lingering)
	defer cancel()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		<-ctx.Done()
		return
	}
	f := os.NewFile(uintptr(fd), "inotify")
	defer f.Close()
	if _, err := unix.InotifyAddWatch(fd, d.leases(), unix.IN_DELETE_SELF); err != nil {
		return // it is gone already
	}
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var event [unix.SizeofInotifyEvent]byte
	_, _ = f.Read(event[:]) // in whichever way it ends
}

// Clean removes what the container of that id has left after its monitor was killed:
// the lease, and for root at once all that nobody uses any more. It is no error when
// nothing is there.
func Clean(directory, id string, rootless bool) error {
	switch d := runDir(directory); {
	case d.alive(id):
		return nil
	case rootless:
		return d.forget(id)
	}
	return Sweep(directory)
}

// Sweep removes at once all that nobody uses any more. It is for root.
func Sweep(directory string) error {
	if _, err := os.Stat(directory); errors.Is(err, fs.ErrNotExist) {
		return nil // nothing has been used
	}
	return runDir(directory).sweep()
}

// sweep removes what nobody uses: leases of killed monitors, interfaces without a
// lease, bridges without containers and, with the last of them, the nft table.
func (d runDir) sweep() error {
	lock, err := d.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	g, err := openGround(nil)
	if err != nil {
		return err
	}
	defer g.Close()
	leases, err := d.reclaim(g, "")
	if err != nil {
		return err
	}
	errs := []error{g.sweep(leases)}
	if len(leases) == 0 {
		errs = append(errs, g.table.remove(), remove(d.defaultFile()))
		if _, err := d.reserved(); err != nil {
			errs = append(errs, err)
		}
		d.remove()
	}
	return errors.Join(errs...)
}

// remove removes a file. It is no error when it is not there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sweep removes interfaces that no lease has.
func (g *ground) sweep(leases []*lease) error {
	links, err := g.links.LinkList()
	if err != nil {
		return err
	}
	used := bridgesOf(leases)
	for _, l := range leases {
		for _, p := range l.Places {
			used[p.Link] = true
		}
	}
	var errs []error
	for _, link := range links {
		switch name := link.Attrs().Name; {
		case used[name]:
		case isOurs(link):
			errs = append(errs, g.removeBridge(link))
		case link.Type() == "veth" && isLinkName(name):
			errs = append(errs, g.unplug(name))
		}
	}
	return errors.Join(errs...)
}

// reclaim takes back the leases whose processes have died, but for the one of id,
// and returns the others. The directory's lock is held.
func (d runDir) reclaim(g *ground, id string) ([]*lease, error) {
	leases, err := d.list()
	if err != nil {
		return nil, err
	}
	var others []*lease
	for _, l := range leases {
		switch {
		case l.ID == id:
		case d.alive(l.ID):
			others = append(others, l)
		default:
			if err := g.reclaim(l); err != nil {
				return nil, err
			}
			if err := d.forget(l.ID); err != nil {
				return nil, err
			}
		}
	}
	return others, nil
}

// reclaim removes what a killed monitor's container has in the bridges' namespace.
func (g *ground) reclaim(l *lease) error {
	var errs []error
	for _, p := range l.Places {
		errs = append(errs, g.unplug(p.Link))
	}
	if !l.Rootless {
		errs = append(errs, unlead(l.Ports, l.target()))
	}
	return errors.Join(errs...)
}
