package layers

import (
	"fmt"
	"slices"
)

// IDRange maps ids of a container's user namespace, Size of them from Inside on, to
// those from Outside on in this process's.
type IDRange struct{ Inside, Outside, Size uint32 }

// Owners maps the owners of files, as a container's user namespace does. The zero
// value changes none.
type Owners struct{ UIDs, GIDs []IDRange }

// nobody is the owner of what belongs to an id that is not mapped.
const nobody = 65534

// IsZero reports whether o changes no owner.
func (o Owners) IsZero() bool { return len(o.UIDs) == 0 && len(o.GIDs) == 0 }

// same reports whether every owner that o maps stays what it is.
func (o Owners) same() bool {
	for _, r := range slices.Concat(o.UIDs, o.GIDs) {
		if r.Inside != r.Outside {
			return false
		}
	}
	return true
}

// Outside returns the owner that this process sees of a file that belongs to uid and
// gid in the container.
func (o Owners) Outside(uid, gid uint32) (uint32, uint32) {
	return outside(o.UIDs, uid), outside(o.GIDs, gid)
}

// Inside is the way back.
func (o Owners) Inside(uid, gid uint32) (uint32, uint32) {
	return inside(o.UIDs, uid), inside(o.GIDs, gid)
}

// Map returns id as m has it outside, and whether it has it.
func Map(m []IDRange, id uint32) (uint32, bool) {
	for _, r := range m {
		if id >= r.Inside && id-r.Inside < r.Size {
			return r.Outside + (id - r.Inside), true
		}
	}
	return 0, false
}

func outside(m []IDRange, id uint32) uint32 {
	if len(m) == 0 {
		return id
	}
	if to, ok := Map(m, id); ok {
		return to
	}
	return nobody
}

func inside(m []IDRange, id uint32) uint32 {
	if len(m) == 0 {
		return id
	}
	for _, r := range m {
		if id >= r.Outside && id-r.Outside < r.Size {
			return r.Inside + (id - r.Outside)
		}
	}
	return nobody
}

// String lists the ranges, those of groups after a slash.
func (o Owners) String() string { return fmt.Sprint(o.UIDs, "/", o.GIDs) }
