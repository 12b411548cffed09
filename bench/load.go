package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// archive is the file that a case's context function leaves for load.
const archive = "image.tar"

// writeArchive makes an image of one layer, which has many small files, as
// docker save writes it; the layer lies beside it.
func writeArchive(dir string, s size) error {
	root := filepath.Join(dir, "root")
	if err := writeTree(root, "FROM busybox-base\n", s); err != nil {
		return err
	}
	layer := filepath.Join(dir, "layer.tar")
	if out, err := exec.Command("tar", "-C", root, "-cf", layer, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	if err := os.RemoveAll(root); err != nil {
		return err
	}
	f, err := os.Open(layer)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	length, err := io.Copy(sum, f)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%x"]}}`, sum.Sum(nil))
	const list = `[{"Config":"config.json","RepoTags":["bench:latest"],"Layers":["layer.tar"]}]`
	to, err := os.Create(filepath.Join(dir, archive))
	if err != nil {
		return err
	}
	w := tar.NewWriter(to)
	for _, file := range []struct {
		name    string
		size    int64
		content io.Reader
	}{
		{"config.json", int64(len(config)), bytes.NewReader([]byte(config))},
		{"manifest.json", int64(len(list)), bytes.NewReader([]byte(list))},
		{"layer.tar", length, f},
	} {
		err = w.WriteHeader(&tar.Header{Name: file.name, Mode: 0o644, Size: file.size})
		if err == nil {
			_, err = io.Copy(w, file.content)
		}
		if err != nil {
			return errors.Join(err, to.Close())
		}
	}
	return errors.Join(w.Close(), to.Close())
}
