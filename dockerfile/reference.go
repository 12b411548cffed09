package dockerfile

import (
	"errors"
	"fmt"
	"strings"
)

// The references of images are parsed here, by hand, because the package that
// defines them compiles a dozen of regular expressions (1.3 ms) whenever a
// program starts. Messages are that package's.

const (
	defaultDomain  = "docker.io"
	officialPrefix = "library/"
	maxNameLength  = 255
)

var errReference = errors.New("invalid reference format")

// imageName is a reference taken apart.
type imageName struct {
	domain, path, tag, digest string
}

// parseImageName reads a reference as Docker writes it and adds the parts that
// are left out in front: "alpine" is docker.io/library/alpine.
func parseImageName(s string) (imageName, error) {
	if len(s) == 64 && all(s, isLowerHex) {
		return imageName{}, fmt.Errorf("invalid repository name (%s), cannot specify 64-byte hexadecimal strings", s)
	}
	var n imageName
	var rest string
	n.domain, rest = splitDomain(s)
	repository, _, _ := strings.Cut(rest, ":")
	if strings.ToLower(repository) != repository {
		return imageName{}, fmt.Errorf("%w: repository name (%s) must be lowercase", errReference, repository)
	}
	rest, digest, hasDigest := strings.Cut(rest, "@")
	path, tag, hasTag := strings.Cut(rest, ":")
	n.path, n.tag, n.digest = path, tag, digest
	if !validDomain(n.domain) || !validPath(path) || hasTag && !validTag(tag) || hasDigest && !validDigest(digest) {
		return imageName{}, errReference
	}
	if len(path) > maxNameLength {
		return imageName{}, fmt.Errorf("repository name must not be more than %v characters", maxNameLength)
	}
	return n, nil
}

// String returns the complete form, with the tag latest when there is neither
// a tag nor a digest.
func (n imageName) String() string {
	s := n.domain + "/" + n.path
	switch {
	case n.tag != "":
		s += ":" + n.tag
	case n.digest == "":
		s += ":latest"
	}
	if n.digest != "" {
		s += "@" + n.digest
	}
	return s
}

// familiar returns the short form, without the tag latest. It is what named
// contexts are called.
func (n imageName) familiar() string {
	s := n.path
	switch {
	case n.domain != defaultDomain:
		s = n.domain + "/" + s
	case strings.HasPrefix(s, officialPrefix) && strings.Count(s, "/") == 1:
		s = strings.TrimPrefix(s, officialPrefix)
	}
	if n.tag != "" {
		s += ":" + n.tag
	}
	if n.digest != "" {
		s += "@" + n.digest
	}
	return strings.TrimSuffix(s, ":latest")
}

func splitDomain(s string) (domain, rest string) {
	first, after, ok := strings.Cut(s, "/")
	switch {
	case !ok:
		return defaultDomain, officialPrefix + s
	case first == "localhost", strings.ContainsAny(first, ".:"), strings.ToLower(first) != first:
		domain, rest = first, after
	default:
		domain, rest = defaultDomain, s
	}
	if domain == "index.docker.io" {
		domain = defaultDomain
	}
	if domain == defaultDomain && !strings.Contains(rest, "/") {
		rest = officialPrefix + rest
	}
	return domain, rest
}

func validDomain(s string) bool {
	host, port := s, "0"
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 2 || !all(s[1:end], func(c byte) bool { return isLowerHex(c|0x20) || c == ':' }) {
			return false
		}
		switch rest := s[end+1:]; {
		case rest == "":
			return true
		case rest[0] == ':':
			return len(rest) > 1 && all(rest[1:], isDigit)
		default:
			return false
		}
	}
	if i := strings.IndexByte(s, ':'); i >= 0 {
		host, port = s[:i], s[i+1:]
	}
	for part := range strings.SplitSeq(host, ".") {
		if part == "" || part[0] == '-' || part[len(part)-1] == '-' ||
			!all(part, func(c byte) bool { return isAlnum(c) || c == '-' }) {
			return false
		}
	}
	return port != "" && all(port, isDigit)
}

// validPath checks components of lower case letters and digits, joined by "/",
// inside of which may be ".", "_", "__" and any number of "-".
func validPath(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		i := 0
		for {
			start := i
			for i < len(part) && isLowerAlnum(part[i]) {
				i++
			}
			if i == start {
				return false
			}
			if i == len(part) {
				break
			}
			n := separator(part[i:])
			if n == 0 {
				return false
			}
			i += n
		}
	}
	return true
}

// separator returns the length of the separator that s begins with.
func separator(s string) int {
	switch {
	case s[0] == '-':
		return len(s) - len(strings.TrimLeft(s, "-"))
	case strings.HasPrefix(s, "__"):
		return 2
	case s[0] == '.', s[0] == '_':
		return 1
	default:
		return 0
	}
}

func validTag(s string) bool {
	return s != "" && len(s) <= 128 && (isAlnum(s[0]) || s[0] == '_') &&
		all(s, func(c byte) bool { return isAlnum(c) || c == '_' || c == '.' || c == '-' })
}

func validDigest(s string) bool {
	algorithm, hex, _ := strings.Cut(s, ":")
	length := map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}[algorithm]
	return length > 0 && len(hex) == length && all(hex, isLowerHex)
}

func all(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool      { return c >= '0' && c <= '9' }
func isLower(c byte) bool      { return c >= 'a' && c <= 'z' }
func isLetter(c byte) bool     { return isLower(c | 0x20) }
func isAlnum(c byte) bool      { return isDigit(c) || isLetter(c) }
func isLowerAlnum(c byte) bool { return isDigit(c) || isLower(c) }
func isLowerHex(c byte) bool   { return isDigit(c) || c >= 'a' && c <= 'f' }
