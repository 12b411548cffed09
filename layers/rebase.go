package layers

import (
	"context"
	"errors"
	"fmt"
)

// Detach hides the parent from View and Write, so that what is written depends
// on nothing below: directories on the way are made as for an empty parent, and
// no symbolic link of the parent is met. The layer still goes on the parent. It
// is called before the first Write; false means that this store's driver copies
// the parent, which can't be hidden then.
func (sn *Snapshot) Detach() bool {
	sn.detached = sn.store.overlay
	return sn.detached
}

// Rebase returns a layer with the changes of the layer id on another parent ("" =
// none), making it from the first one's tar if the store does not have it. The
// files are copied: a layer's directory belongs to one parent only.
func (s *Store) Rebase(ctx context.Context, id, parent string) (Layer, error) {
	from, err := s.Layer(id)
	if err != nil {
		return Layer{}, fmt.Errorf("rebase: %w", err)
	}
	if from.Parent == parent {
		return from, nil
	}
	to, err := s.Layer(s.LayerID(parent, from.DiffID))
	if err == nil || !errors.Is(err, ErrNotFound) {
		return to, err
	}
	tar, err := s.Diff(ctx, id)
	if err != nil {
		return Layer{}, fmt.Errorf("rebase: %w", err)
	}
	defer tar.Close()
	if to, err = s.Apply(ctx, parent, tar); err != nil {
		return Layer{}, fmt.Errorf("rebase layer %s: %w", id, err)
	}
	if to.DiffID != from.DiffID {
		return Layer{}, fmt.Errorf("rebase layer %s: it has become %s", from.DiffID, to.DiffID)
	}
	return to, nil
}
