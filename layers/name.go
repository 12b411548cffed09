package layers

import (
	"errors"
	"fmt"
	"strings"

	digest "github.com/opencontainers/go-digest"
)

// imageName is a parsed image name: [domain/]path[:tag][@digest].
type imageName struct {
	domain string // "" = a short name
	path   string
	tag    string
	digest digest.Digest
}

const (
	localDomain  = "localhost"
	dockerDomain = "docker.io"
	maxName      = 255 // bytes of domain and path
	maxTag       = 128
)

// NormalizeName returns the full form of a name an image is to get: localhost/
// is put before a name without a registry and :latest behind one without a tag.
func NormalizeName(name string) (string, error) {
	n, err := parseName(name)
	if err != nil {
		return "", err
	}
	if n.digest != "" {
		return "", fmt.Errorf("image name %q: a name to give cannot have a digest", name)
	}
	if n.domain == "" {
		n.domain = localDomain
	}
	return n.String(), nil
}

// String returns the full name, with the tag latest when there is neither tag
// nor digest.
func (n imageName) String() string {
	s := n.repository()
	switch {
	case n.digest != "":
		return s + "@" + n.digest.String()
	case n.tag == "":
		return s + ":latest"
	}
	return s + ":" + n.tag
}

func (n imageName) repository() string {
	if n.domain == dockerDomain && !strings.Contains(n.path, "/") {
		return dockerDomain + "/library/" + n.path
	}
	if n.domain == "" {
		return n.path
	}
	return n.domain + "/" + n.path
}

// parseName parses a name by the rules of docker's distribution reference.
func parseName(name string) (imageName, error) {
	var n imageName
	rest, sum, ok := strings.Cut(name, "@")
	if ok {
		var err error
		if n.digest, err = digest.Parse(sum); err != nil {
			return n, fmt.Errorf("image name %q: %w", name, err)
		}
	}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.Contains(rest[i:], "/") {
		rest, n.tag = rest[:i], rest[i+1:]
		if !validTag(n.tag) {
			return n, fmt.Errorf("image name %q: invalid tag %q", name, n.tag)
		}
	}
	n.path = rest
	if first, path, ok := strings.Cut(rest, "/"); ok && isDomain(first) {
		n.domain, n.path = first, path
		if n.domain == "index.docker.io" {
			n.domain = dockerDomain
		}
	}
	if err := n.validate(); err != nil {
		return n, fmt.Errorf("image name %q: %w", name, err)
	}
	return n, nil
}

// isDomain tells a registry from the first element of a path, as docker does.
func isDomain(s string) bool {
	return s == localDomain || strings.ContainsAny(s, ".:") || strings.ToLower(s) != s
}

func (n imageName) validate() error {
	if len(n.domain)+len(n.path)+1 > maxName {
		return fmt.Errorf("longer than %d bytes", maxName)
	}
	for i := range len(n.domain) {
		if c := n.domain[i]; !isAlnum(c|0x20) && !strings.ContainsRune(".-:[]", rune(c)) {
			return fmt.Errorf("invalid registry %q", n.domain)
		}
	}
	for element := range strings.SplitSeq(n.path, "/") {
		if !validElement(element) {
			if strings.ToLower(element) != element {
				return errors.New("repository must be lower case")
			}
			return fmt.Errorf("invalid repository %q", n.path)
		}
	}
	return nil
}

func isAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// validElement: lower case letters and digits, parted by ".", "_", "__" or any
// number of "-".
func validElement(s string) bool {
	if s == "" || !isAlnum(s[0]) || !isAlnum(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); {
		if isAlnum(s[i]) {
			i++
			continue
		}
		start := i
		for !isAlnum(s[i]) {
			i++
		}
		if sep := s[start:i]; sep != "." && sep != "_" && sep != "__" && strings.Trim(sep, "-") != "" {
			return false
		}
	}
	return true
}

func validTag(s string) bool {
	if s == "" || len(s) > maxTag || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c|0x20) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}
