package dockerfile

// Ignore is an ignore file (.dockerignore): which paths of a build context
// don't belong to it. A nil *Ignore ignores nothing. It is safe for concurrent
// use.
type Ignore struct{}

// ParseIgnore reads an ignore file.
func ParseIgnore(src []byte) (*Ignore, error) { return nil, nil }

// Match reports whether path is ignored. The path is relative to the context
// and separated by slashes.
func (i *Ignore) Match(path string) bool { return false }

// Skip reports whether a walk can leave path out: a file that is ignored, or a
// directory that is ignored and cannot have anything in it that is not.
func (i *Ignore) Skip(path string, isDir bool) bool { return false }

// IgnoreNames returns the names of the ignore files for a Dockerfile, best
// first; the first that exists is the one that counts.
func IgnoreNames(dockerfile string) []string {
	return []string{dockerfile + ".dockerignore", ".dockerignore", ".containerignore"}
}
