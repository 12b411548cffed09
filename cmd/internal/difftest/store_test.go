package difftest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"cooper/layers"
)

// The test binary is executed anew, with this variable set, to do what an
// ordinary user may only do in a user namespace: "dump" describes the images
// that the JSON array of IDs on standard input names, "remove" removes the
// directory that holds the store.
const storeTask = "COOPER_DIFFTEST_STORE"

func TestMain(m *testing.M) {
	layers.Init()
	task := os.Getenv(storeTask)
	if task == "" {
		os.Exit(m.Run())
	}
	err := layers.EnterUserNamespace()
	if err == nil && task == "dump" {
		err = dump(context.Background(), os.Args[1])
	} else if err == nil {
		_ = unix.Unmount(os.Args[1]+"/root/overlay", unix.MNT_DETACH) // the storage library leaves it mounted
		err = os.RemoveAll(os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// dump prints the images of the store below dir as a JSON object of built by ID.
func dump(ctx context.Context, dir string) (err error) {
	var ids []string
	if err := json.NewDecoder(os.Stdin).Decode(&ids); err != nil {
		return err
	}
	store, err := layers.Open(ctx, layers.Options{Root: dir + "/root", RunRoot: dir + "/run"})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := store.Close(); err == nil {
			err = cerr
		}
	}()
	r := reader{ctx: ctx, store: store, contents: map[[2]uint64]string{}}
	out := map[string]*built{}
	for _, id := range ids {
		if out[id] != nil {
			continue
		}
		b, err := r.read(id)
		if err != nil {
			b = &built{Err: err.Error()}
		}
		out[id] = b
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// reader reads images from a store.
type reader struct {
	ctx      context.Context
	store    *layers.Store
	contents map[[2]uint64]string // by device and inode: images share most
}

func (r *reader) read(id string) (*built, error) {
	img, err := r.store.Image(id)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(img.Config)
	if err != nil {
		return nil, err
	}
	view, err := r.store.View(img.Layer)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	tree := map[string]file{".": {mode: unix.S_IFDIR | 0o755}}
	err = view.Walk(r.ctx, ".", nil, func(f layers.Info) error {
		tree[f.Path], err = r.file(view, f)
		return err
	})
	if root := tree["."]; root.mode == unix.S_IFDIR|0o555 {
		// No layer speaks of it. The storage library makes it so, docker
		// as merge does.
		root.mode = unix.S_IFDIR | 0o755
		tree["."] = root
	}
	dropLoneLinks(tree)
	return &built{Config: config, Tree: describe(tree)}, err
}

// file describes one file. Its inode is set where the layer has hard links.
func (r *reader) file(view *layers.View, f layers.Info) (file, error) {
	out := file{mode: f.Mode, uid: f.UID, gid: f.GID, rdev: f.Rdev, link: f.Linkname}
	var err error
	if out.xattrs, err = view.Xattrs(f.Path); err != nil {
		return out, err
	}
	if !f.IsRegular() {
		return out, nil
	}
	key := [2]uint64{f.Dev, f.Ino}
	if f.Nlink > 1 {
		out.inode = int64(f.Ino)
	}
	if known, ok := r.contents[key]; ok {
		out.content = known
		return out, nil
	}
	open, err := view.Open(f.Path)
	if err != nil {
		return out, err
	}
	defer open.Close()
	out.content, err = content(open)
	r.contents[key] = out.content
	return out, err
}

// dropLoneLinks forgets the inodes of files whose other links are hidden.
func dropLoneLinks(tree map[string]file) {
	count := map[int64]int{}
	for _, f := range tree {
		count[f.inode]++
	}
	for p, f := range tree {
		if f.inode != 0 && count[f.inode] == 1 {
			f.inode = 0
			tree[p] = f
		}
	}
}
