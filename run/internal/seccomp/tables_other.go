//go:build !amd64 && !arm64

package seccomp

// tables is empty: a profile is an error here, and a container runs only if its
// user asks for seccomp=unconfined.
var tables []table
