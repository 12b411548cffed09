package layers

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path"

	"go.podman.io/storage/pkg/chrootarchive"

	"cooper/layers/internal/unpack"
)

// extract unpacks the tar in this process.
func (a *overlayArea) extract(r io.Reader) (_ *stream, root bool, err error) {
	if a.tar.ForceMask != nil {
		return a.extractMasked(r)
	}
	upper, err := os.Open(a.upper())
	if err != nil {
		return nil, false, err
	}
	defer upper.Close()
	f, err := newForeignTar(r, nil)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	tree := unpack.New(upper, unpack.Options{
		Opaque: a.s.overlayXattr() + "opaque", UserNS: a.tar.InUserNS, IgnoreChown: a.tar.IgnoreChownErrors,
	})
	defer tree.Close()
	st, err := f.each(tree.Add)
	if err == nil {
		err = tree.Finish()
	}
	if err != nil {
		st.close()
		return nil, false, err
	}
	return st, tree.SawRoot(), nil
}

// extractMasked leaves the unpacking to the storage library, in a store whose
// option force_mask keeps the modes in attributes.
func (a *overlayArea) extractMasked(r io.Reader) (_ *stream, root bool, err error) {
	read, write := io.Pipe()
	f, err := newForeignTar(r, write)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	unpacked := make(chan error, 1)
	go func() {
		err := chrootarchive.UntarUncompressed(read, a.upper(), &a.tar)
		read.CloseWithError(errors.Join(err, io.ErrClosedPipe))
		unpacked <- err
	}()
	st, err := f.each(func(h *tar.Header, _ io.Reader) error {
		root = root || path.Clean("/"+h.Name) == "/"
		return nil
	})
	write.CloseWithError(err)
	if err := errors.Join(<-unpacked, err); err != nil {
		st.close()
		return nil, false, err
	}
	return st, root, nil
}
