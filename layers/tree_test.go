package layers

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree describes every file below root in one line, as a container would see
// it, for whole-value comparisons. Sockets are left out, as layers leave them
// out, and so are the marks of overlayfs.
func tree(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	names := make(map[inode][]int) // lines of the regular files with several names
	err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		line, err := treeLine(name, rel, &st)
		if line == "" {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink > 1 {
			key := inode{st.Dev, st.Ino}
			names[key] = append(names[key], len(lines))
		}
		lines = append(lines, line)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range names {
		for _, i := range at {
			if len(at) > 1 { // overlayfs counts names that are hidden, too
				lines[i] += fmt.Sprintf(" linked with %d", at[0])
			}
		}
	}
	return lines
}

func treeLine(name, rel string, st *unix.Stat_t) (string, error) {
	line := fmt.Sprintf("%q %06o %d:%d", rel, st.Mode, st.Uid, st.Gid)
	if rel != "." { // its time is nobody's business
		line += fmt.Sprintf(" @%d", st.Mtim.Sec)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return "", nil
	case unix.S_IFLNK:
		target, err := os.Readlink(name)
		return line + " -> " + target, err
	case unix.S_IFCHR, unix.S_IFBLK:
		line += fmt.Sprintf(" device %d,%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	case unix.S_IFREG:
		content, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(" %d bytes %.8x", st.Size, sha256.Sum256(content))
	}
	return line + treeXattrs(name), nil
}

func treeXattrs(name string) string {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(name, buf)
	if err != nil || n == 0 {
		return ""
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	line := ""
	for _, x := range names {
		if !keepXattr(x) {
			continue
		}
		value := make([]byte, 64<<10)
		n, _ := unix.Lgetxattr(name, x, value)
		line += fmt.Sprintf(" %s=%q", x, value[:n])
	}
	return line
}
