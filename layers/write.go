package layers

import (
	"context"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// WriteOptions say how Snapshot.Write reports and what it makes up.
type WriteOptions struct {
	// OnProgress, if not nil, is told how many bytes of content have been
	// written since its last call. Calls are serialised.
	OnProgress func(bytes int64)
	// Digests, if not nil, is told the sha256 of the content of entries[i],
	// for each regular file that was written and is not a hard link. Calls
	// are serialised, in no particular order.
	Digests func(i int, d digest.Digest)
	// DirMode, DirUID, DirGID and DirTime are given to parent directories
	// that exist neither in the snapshot nor below it. A zero DirMode means
	// 0755, a zero DirTime the Unix epoch.
	DirMode uint32
	DirUID  uint32
	DirGID  uint32
	DirTime time.Time
	// Replace lets a file take the place of a directory and a directory that
	// of a file, as unpacking an archive does. Copying does not.
	Replace bool
}

// ConflictError says that an entry cannot be written because of the type of
// what exists at Path.
type ConflictError struct {
	Path string
	// Dir is set if a directory exists where a file should be written;
	// otherwise a directory should be made where a file exists.
	Dir bool
}

func (e *ConflictError) Error() string {
	if e.Dir {
		return "cannot replace to directory /" + e.Path + " with file"
	}
	return "cannot copy to non-directory: /" + e.Path
}

// withDefaults fills in what zero means.
func (o WriteOptions) withDefaults() WriteOptions {
	if o.DirMode == 0 {
		o.DirMode = 0o755
	}
	if o.DirTime.IsZero() {
		o.DirTime = time.Unix(0, 0)
	}
	return o
}

// Write writes entries into the snapshot, straight into its directory and
// without a mount. Their order does not matter, except that of entries with the
// same path the last one counts; a hard link may come before its target.
//
// Parents that exist only in lower layers are copied up with mode, owner,
// extended attributes and modification time; missing ones are made as o says.
// A directory merges with an existing one and takes the entry's metadata. A
// file replaces any other non-directory, a symbolic link too. Anything else needs
// o.Replace, or is a *ConflictError, found before the first file is written. No symbolic link is
// followed: paths must have been resolved (View.Resolve). Sockets are skipped.
//
// The first Write into an untouched snapshot makes the layer's digest on the
// way, so that Commit reads nothing again. After an error the snapshot holds
// some of the entries and only Remove is useful.
func (sn *Snapshot) Write(ctx context.Context, entries []Entry, o WriteOptions) error {
	p, err := newPlan(entries)
	if err != nil {
		return err
	}
	if len(p.order) == 0 && p.root.index < 0 {
		return nil
	}
	sn.dropStream()
	w, err := newWriter(sn, p, o)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.run(ctx); err != nil {
		return err
	}
	if w.stream == nil {
		return nil
	}
	st, err := w.stream.finish()
	if err != nil {
		return err
	}
	sn.mu.Lock()
	sn.stream = st
	sn.mu.Unlock()
	return nil
}
