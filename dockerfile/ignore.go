package dockerfile

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
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
	none  []bool
	dirs  sync.Map // see above
}

// ignoreRule is a line. Of those that match a path or a directory above it,
// the last one decides.
type ignoreRule struct {
	pattern string         // clean, relative to the context, without "!"
	include bool           // "!": the path is not ignored after all
	simple  *simplePattern // if the pattern is one
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
	return NewIgnore(lines)
}

// NewIgnore returns what patterns say that don't come from a file, as those of
// COPY --exclude: one that begins with # is no comment, and one that begins
// with / matches nothing. It is nil when there are none.
func NewIgnore(patterns []string) (*Ignore, error) {
	var ignore Ignore
	for _, pattern := range patterns {
		if strings.TrimSpace(pattern) == "" {
			continue
		}
		rule, err := newIgnoreRule(pattern)
		if err != nil {
			return nil, fmt.Errorf("ignore pattern %q: %w", pattern, err)
		}
		ignore.rules = append(ignore.rules, rule)
		ignore.back = ignore.back || rule.include
	}
	if len(ignore.rules) == 0 {
		return nil, nil
	}
	ignore.none = make([]bool, len(ignore.rules))
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
	rule := ignoreRule{pattern: pattern, include: include, simple: newSimplePattern(pattern)}
	if strings.HasPrefix(pattern, "!") {
		// Only the first "!" has a meaning; a class keeps the second a letter.
		pattern = "[!]" + pattern[1:]
	}
	var err error
	rule.matcher, err = patternmatcher.New([]string{pattern})
	if err != nil {
		return ignoreRule{}, err
	}
	_, err = rule.matcher.MatchesOrParentMatches("x") // compiles the pattern
	return rule, err
}

// Match reports whether name is ignored. It is relative to the context and
// separated by slashes. The context itself (".") never is.
func (i *Ignore) Match(name string) bool {
	if i == nil {
		return false
	}
	name = relative(name)
	if name == "" {
		return false
	}
	above := i.above(parentOf(name))
	ignored := false
	for n, rule := range i.rules {
		// A rule that would not change anything need not be tried.
		if rule.include == ignored && (above[n] || rule.match(name)) {
			ignored = !rule.include
		}
	}
	return ignored
}

// above tells for each rule whether it matches dir or a directory above it.
// Most paths have the directory in common with the path before, so the answers
// are kept.
func (i *Ignore) above(dir string) []bool {
	if known, ok := i.dirs.Load(dir); ok {
		return known.([]bool)
	}
	if dir == "" {
		return i.none
	}
	matched := i.above(parentOf(dir))
	shared := true
	for n, rule := range i.rules {
		if matched[n] || !rule.match(dir) {
			continue
		}
		if shared {
			matched, shared = slices.Clone(matched), false
		}
		matched[n] = true
	}
	i.dirs.Store(dir, matched)
	return matched
}

func (r *ignoreRule) match(name string) bool {
	if r.simple != nil {
		return r.simple.match(name)
	}
	//lint:ignore SA1019 the function is wrong for lists of patterns, but says for a single one whether it matches name itself
	ok, err := r.matcher.MatchesUsingParentResult(name, false)
	return ok && err == nil
}

// simplePattern is a pattern that needs no regular expression, as most need
// none: text with at most one star, which may begin with "**/". The library
// takes ^, | and braces for a regular expression, which is left to it.
type simplePattern struct {
	anyDir, star   bool
	prefix, suffix string // around the star; without one prefix is all
}

func newSimplePattern(pattern string) *simplePattern {
	rest, anyDir := strings.CutPrefix(pattern, "**/")
	prefix, suffix, star := strings.Cut(rest, "*")
	if rest == "" || strings.ContainsAny(prefix+suffix, "*?[]\\^|{}") || anyDir && strings.Contains(rest, "/") {
		return nil
	}
	return &simplePattern{anyDir, star, prefix, suffix}
}

func (s *simplePattern) match(name string) bool {
	if s.anyDir {
		name = name[strings.LastIndexByte(name, '/')+1:]
	}
	if !s.star {
		return name == s.prefix
	}
	n := len(name) - len(s.suffix)
	return n >= len(s.prefix) && strings.HasPrefix(name, s.prefix) && strings.HasSuffix(name, s.suffix) &&
		strings.IndexByte(name[len(s.prefix):n], '/') < 0
}

// relative returns name clean and without a leading slash; "" is the context.
func relative(name string) string { return strings.TrimPrefix(path.Join("/", name), "/") }

func parentOf(name string) string { return name[:max(0, strings.LastIndexByte(name, '/'))] }

// Skip reports whether a walk can leave name out: a file that is ignored, or a
// directory that is ignored and cannot have anything in it that is not. A walk
// that goes on into an ignored directory has to ask Match about the directory.
func (i *Ignore) Skip(name string, isDir bool) bool {
	if !i.Match(name) {
		return false
	}
	if !isDir || !i.back {
		return true
	}
	dir := strings.Split(relative(name), "/")
	return !slices.ContainsFunc(i.rules, func(rule ignoreRule) bool {
		return rule.include && mayMatchBelow(rule.pattern, dir)
	})
}

// mayMatchBelow reports whether pattern could match something inside dir.
func mayMatchBelow(pattern string, dir []string) bool {
	if strings.ContainsAny(pattern, `[]\^|{}`) {
		return true // the library's regular expression may match slashes too
	}
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
