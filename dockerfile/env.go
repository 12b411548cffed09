package dockerfile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// env is a set of variables in the order in which they were last set.
type env struct {
	keys   []string
	values map[string]string
}

func newEnv() *env { return &env{values: map[string]string{}} }

// Get is for shell.EnvGetter.
func (e *env) Get(key string) (string, bool) {
	v, ok := e.values[key]
	return v, ok
}

// Keys is for shell.EnvGetter.
func (e *env) Keys() []string { return e.keys }

// set gives key a value and, as BuildKit does, moves it to the end.
func (e *env) set(key, value string) {
	e.unset(key)
	e.keys = append(e.keys, key)
	e.values[key] = value
}

func (e *env) unset(key string) {
	if _, ok := e.values[key]; ok {
		delete(e.values, key)
		e.keys = slices.DeleteFunc(e.keys, func(k string) bool { return k == key })
	}
}

func (e *env) clone() *env {
	return &env{keys: slices.Clone(e.keys), values: maps.Clone(e.values)}
}

// list returns the variables as "K=V".
func (e *env) list() []string {
	out := make([]string, len(e.keys))
	for i, k := range e.keys {
		out[i] = k + "=" + e.values[k]
	}
	return out
}

// overlay is an env with some values replaced.
type overlay struct {
	shell.EnvGetter
	values map[string]string
}

func (o overlay) Get(key string) (string, bool) {
	if v, ok := o.values[key]; ok {
		return v, true
	}
	return o.EnvGetter.Get(key)
}

// Limits on what the variables of one word may expand to, in bytes. Without
// them a few lines of ENV A=$A$A take all memory. Linux passes no variable of
// more than 128 KiB to a command. Replacing (${v//a/b}) multiplies lengths, so
// less is allowed there.
const (
	maxExpansion = 1 << 20
	maxReplace   = 64 << 10
)

var errExpansion = errors.New("variables expand to more text than is allowed")

// meter counts the bytes that are taken from an env.
type meter struct {
	shell.EnvGetter
	left int
}

func (m *meter) Get(key string) (string, bool) {
	v, ok := m.EnvGetter.Get(key)
	m.left -= len(v)
	if m.left < 0 {
		return "", ok
	}
	return v, ok
}

func newMeter(e shell.EnvGetter, word string) *meter {
	limit := maxExpansion
	if strings.Contains(word, "//") && strings.Contains(word, "${") {
		limit = maxReplace
	}
	return &meter{e, limit}
}

func (m *meter) check(word string, err error) error {
	if m.left >= 0 {
		return err
	}
	if len(word) > 40 {
		word = word[:40] + "..."
	}
	return fmt.Errorf("failed to process %q: %w", word, errExpansion)
}

// expand replaces the variables in word and removes quotes. Result.Unmatched
// are the variables that are not in e.
func expand(lex *shell.Lex, word string, e shell.EnvGetter) (shell.ProcessWordResult, error) {
	if !strings.ContainsAny(word, "$'\"\\`<") {
		return shell.ProcessWordResult{Result: word}, nil // as most words are
	}
	m := newMeter(e, word)
	result, err := lex.ProcessWordWithMatches(word, m)
	return result, m.check(word, err)
}

// expandWords is expand for a word that may become several.
func expandWords(lex *shell.Lex, word string, e shell.EnvGetter) ([]string, error) {
	m := newMeter(e, word)
	words, err := lex.ProcessWords(word, m)
	return words, m.check(word, err)
}

// sortedKeys returns the keys of a set in order, so that messages come in the
// same order each time.
func sortedKeys[V any](set map[string]V) []string { return slices.Sorted(maps.Keys(set)) }
