package dockerfile

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Ignore is an ignore file (.dockerignore): which paths of a build context
// don't belong to it. A nil *Ignore ignores nothing. It is safe for concurrent
// use.
type Ignore struct {
	rules []ignoreRule
	back  bool // some rule takes paths back in
}

// ignoreRule is a line. Of those that match a path or a directory above it,
// the last one decides.
type ignoreRule struct {
	pattern string // clean, relative to the context, without "!"
	include bool   // "!": the path is not ignored after all
	matcher *patternmatcher.PatternMatcher
}

// ParseIgnore reads an ignore file. It returns nil when that has no patterns.
func ParseIgnore(src []byte) (*Ignore, error) {
	if bytes.IndexByte(src, 0) >= 0 || !utf8.Valid(src) {
		return nil, errors.New("ignore file is not text in UTF-8")
	}
	lines, err := ignorefile.ReadAll(bytes.NewReader(src))
	if err != nil {
		return nil, fmt.Errorf("read ignore file: %w", err)
	}
	var ignore Ignore
	for _, line := range lines {
		rule, err := newIgnoreRule(line)
		if err != nil {
			return nil, fmt.Errorf("ignore pattern %q: %w", line, err)
		}
		ignore.rules = append(ignore.rules, rule)
		ignore.back = ignore.back || rule.include
	}
	if len(ignore.rules) == 0 {
		return nil, nil
	}
	return &ignore, nil
}

func newIgnoreRule(line string) (ignoreRule, error) {
	// The library checks the line as a whole, but matches with the pattern
	// alone. A matcher with one pattern does not change any more once it has
	// been used, so it can be used from several goroutines.
	if _, err := patternmatcher.New([]string{line}); err != nil {
		return ignoreRule{}, err
	}
	pattern, include := strings.CutPrefix(line, "!")
	pattern = path.Clean(strings.TrimSpace(pattern))
	rule := ignoreRule{pattern: pattern, include: include}
	if strings.HasPrefix(pattern, "!") {
		// Only the first "!" has a meaning; a class keeps the second a letter.
		pattern = "[!]" + pattern[1:]
	}
	var err error
	rule.matcher, err = patternmatcher.New([]string{pattern})
	if err != nil {
		return ignoreRule{}, err
	}
	_, err = rule.matcher.MatchesOrParentMatches("x")
	return rule, err
}

// Match reports whether name is ignored. It is relative to the context and
// separated by slashes. The context itself (".") never is.
func (i *Ignore) Match(name string) bool {
	if i == nil {
		return false
	}
	name = strings.TrimPrefix(path.Join("/", name), "/")
	if name == "" {
		name = "."
	}
	ignored := false
	for _, rule := range i.rules {
		if rule.include != ignored {
			continue // it would not change anything
		}
		if ok, err := rule.matcher.MatchesOrParentMatches(name); ok && err == nil {
			ignored = !rule.include
		}
	}
	return ignored
}

// Skip reports whether a walk can leave name out: a file that is ignored, or a
// directory that is ignored and cannot have anything in it that is not. A walk
// that goes on into an ignored directory has to ask Match about the directory.
func (i *Ignore) Skip(name string, isDir bool) bool {
	if i == nil || !i.Match(name) {
		return false
	}
	if !isDir || !i.back {
		return true
	}
	dir := strings.Split(strings.TrimPrefix(path.Join("/", name), "/"), "/")
	return !slices.ContainsFunc(i.rules, func(rule ignoreRule) bool {
		return rule.include && mayMatchBelow(rule.pattern, dir)
	})
}

// mayMatchBelow reports whether pattern could match something inside dir.
func mayMatchBelow(pattern string, dir []string) bool {
	parts := strings.Split(pattern, "/")
	for i, name := range dir {
		if i == len(parts) {
			return true // matches a directory above, so everything in it
		}
		if strings.Contains(parts[i], "**") {
			return true
		}
		if ok, err := path.Match(parts[i], name); !ok && err == nil {
			return false
		}
	}
	return true
}

// reincludes reports whether there are patterns with "!".
func (i *Ignore) reincludes() bool { return i != nil && i.back }

// everything reports whether a pattern stands for all of the context.
func (i *Ignore) everything() bool {
	return slices.ContainsFunc(i.rules, func(r ignoreRule) bool {
		return !r.include && (r.pattern == "*" || r.pattern == "**" || r.pattern == "**/*")
	})
}

// IgnoreNames returns the names of the ignore files for a Dockerfile, best
// first; the first that exists is the one that counts.
func IgnoreNames(dockerfile string) []string {
	return []string{dockerfile + ".dockerignore", ".dockerignore", ".containerignore"}
}
