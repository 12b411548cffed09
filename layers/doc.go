// Package layers owns the store: layers, snapshots, images and cache records
// in the system's containers/storage, so that podman, buildah, skopeo and
// CRI-O see what Cooper makes, and Cooper what they make.
//
// A Layer is immutable and has a DiffID. A Snapshot is a writable directory
// standing on a layer: Prepare makes it, then Commit turns it into a layer
// without copying its files, or Remove drops it:
//
//	sn, err := store.Prepare(ctx, parent)
//	...                               // write into sn, or run a process in sn.Rootfs()
//	c := sn.Commit(ctx)               // returns at once; digest and rename go on
//	next, err := store.Prepare(ctx, c) // stands on it already
//	layer, err := c.Wait(ctx)
//
// A View reads a stack of layer directories as overlayfs would merge them, but
// without a mount, so that steps that only copy files mount nothing.
package layers
