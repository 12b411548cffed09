package sshagent

import "os"

// maxDir is how long a directory's name may be for a socket in it: the kernel
// takes 107 bytes for all of a socket's path.
const maxDir = 90

// TempDir makes a temporary directory for a socket, whose path is short even if
// TMPDIR is not. The caller removes it.
func TempDir() (string, error) {
	dir, err := os.MkdirTemp("", "cooper-agent-")
	if err != nil || len(dir) <= maxDir {
		return dir, err
	}
	if err := os.Remove(dir); err != nil {
		return "", err
	}
	return os.MkdirTemp("/tmp", "cooper-agent-")
}
