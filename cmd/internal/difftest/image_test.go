package difftest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// image is what a build comes to, in the form of want.json.
type image struct {
	// Source says who made it: "buildkit v0.34.2", or byHand.
	Source string `json:"source"`
	Author string `json:"author,omitempty"`
	OS     string `json:"os"`
	// Config is the image's "config", as it is.
	Config  any       `json:"config"`
	History []history `json:"history"`
	// Files maps the path of each file that the base image does not have,
	// or has otherwise, to its description. Removed are the base's files
	// that are gone. For an image that does not stand on the base, Files
	// are all.
	Base    string            `json:"base,omitempty"`
	Files   map[string]string `json:"files"`
	Removed []string          `json:"removed,omitempty"`
}

// byHand is the source of what no BuildKit is asked for.
const byHand = "written by hand"

// history is an entry of the image's history without its time.
type history struct {
	CreatedBy  string `json:"created_by"`
	Comment    string `json:"comment,omitempty"`
	Author     string `json:"author,omitempty"`
	EmptyLayer bool   `json:"empty_layer,omitempty"`
}

// built is an image with its whole tree.
type built struct {
	// Config is the image's configuration file.
	Config json.RawMessage
	// Tree describes every file by its path; the root is ".".
	Tree map[string]string
	Err  string
}

// relative turns b into an image relative to base.
func (b *built) relative(source string, base *built) (image, error) {
	var config, baseConfig struct {
		Author string
		OS     string
		Config any
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
		History []history
	}
	if err := json.Unmarshal(b.Config, &config); err != nil {
		return image{}, fmt.Errorf("image configuration: %w", err)
	}
	if err := json.Unmarshal(base.Config, &baseConfig); err != nil {
		return image{}, fmt.Errorf("base's configuration: %w", err)
	}
	img := image{Source: source, Author: config.Author, OS: config.OS, Config: config.Config, History: config.History}
	filled := 0
	for _, h := range config.History {
		if !h.EmptyLayer {
			filled++
		}
	}
	if filled != len(config.RootFS.DiffIDs) {
		return img, fmt.Errorf("history names %d layers, there are %d", filled, len(config.RootFS.DiffIDs))
	}
	from := map[string]string{}
	if n := len(baseConfig.RootFS.DiffIDs); len(config.RootFS.DiffIDs) >= n && slices.Equal(config.RootFS.DiffIDs[:n], baseConfig.RootFS.DiffIDs) {
		img.Base, from = "busybox-base", base.Tree
		// Of the base, Debian's busybox, the layer's origin may change.
		img.History = img.History[len(baseConfig.History):]
	}
	img.Files = map[string]string{}
	for p, d := range b.Tree {
		if from[p] != d {
			img.Files[p] = d
		}
	}
	for _, p := range slices.Sorted(maps.Keys(from)) {
		if _, ok := b.Tree[p]; !ok {
			img.Removed = append(img.Removed, p)
		}
	}
	return img, nil
}

// file is one file of a tree.
type file struct {
	mode     uint32 // as in struct stat
	uid, gid uint32
	rdev     uint64
	link     string
	content  string // from content()
	xattrs   map[string]string
	inode    int64 // the same for hard links of each other, 0 for a lone file
}

// describe tells each file of a tree in one line. Hard links name the first of
// them.
func describe(tree map[string]file) map[string]string {
	out := make(map[string]string, len(tree))
	first := map[int64]string{}
	for _, p := range slices.Sorted(maps.Keys(tree)) {
		f := tree[p]
		line := f.String()
		if f.inode != 0 {
			if name, ok := first[f.inode]; ok {
				line += " same as " + name
			} else {
				first[f.inode] = p
			}
		}
		out[p] = line
	}
	return out
}

// String tells type, mode and owner as ls does, then what the file holds.
func (f file) String() string {
	types := map[uint32]string{
		unix.S_IFREG: "-", unix.S_IFDIR: "d", unix.S_IFLNK: "l", unix.S_IFIFO: "p",
		unix.S_IFCHR: "c", unix.S_IFBLK: "b", unix.S_IFSOCK: "s",
	}
	kind := types[f.mode&unix.S_IFMT]
	line := fmt.Sprintf("%s%04o %d:%d", kind, f.mode&0o7777, f.uid, f.gid)
	switch kind {
	case "-":
		line += " " + f.content
	case "l":
		line = fmt.Sprintf("l %d:%d -> %s", f.uid, f.gid, f.link)
	case "c", "b":
		line += fmt.Sprintf(" %d,%d", unix.Major(f.rdev), unix.Minor(f.rdev))
	}
	for _, name := range slices.Sorted(maps.Keys(f.xattrs)) {
		line += fmt.Sprintf(" %s=%x", name, f.xattrs[name])
	}
	return line
}

// content tells a file's content: itself when it is short and text, else its
// size in bytes and its digest.
func content(r io.Reader) (string, error) {
	const short = 400
	head, err := io.ReadAll(io.LimitReader(r, short))
	if err != nil {
		return "", err
	}
	printable := utf8.Valid(head) && !strings.ContainsFunc(string(head), func(r rune) bool {
		return r < ' ' && r != '\n' && r != '\t' && r != '\r'
	})
	if len(head) < short && printable {
		return fmt.Sprintf("%q", head), nil
	}
	h := sha256.New()
	h.Write(head)
	n, err := io.Copy(h, r)
	return fmt.Sprintf("%d sha256:%s", int64(len(head))+n, hex.EncodeToString(h.Sum(nil))), err
}
