package quadlet

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// blanks separate words.
const blanks = " \t\n\r"

// SplitWords splits a value into words as systemd does: at blanks outside
// quotes, either quotes being removed, C escapes being read in and outside
// them. An escape that is not known stays as it is.
func SplitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	open := false // a word has begun
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\':
			r, size, err := unescape(s[i:])
			if err != nil {
				return nil, err
			}
			word.WriteString(r)
			i += size - 1
			open = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, open = c, true
		case quote == 0 && strings.IndexByte(blanks, c) >= 0:
			if open {
				words = append(words, word.String())
				word.Reset()
			}
			open = false
		default:
			word.WriteByte(c)
			open = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a closing %c is missing", quote)
	}
	if open {
		words = append(words, word.String())
	}
	return words, nil
}

// simpleEscapes are the escapes of one letter. \s is a blank.
var simpleEscapes = map[byte]string{
	'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
	'\\': `\`, '"': `"`, '\'': `'`, 's': " ",
}

// unescape reads the escape at the beginning of s and returns what it stands
// for and its length.
func unescape(s string) (text string, size int, err error) {
	if len(s) < 2 {
		return "", 0, errors.New(`nothing follows the last \`)
	}
	if text, ok := simpleEscapes[s[1]]; ok {
		return text, 2, nil
	}
	digits, base, from := 0, 16, 2
	switch c := s[1]; {
	case c == 'x':
		digits = 2
	case c == 'u':
		digits = 4
	case c == 'U':
		digits = 8
	case c >= '0' && c <= '7':
		digits, base, from = 3, 8, 1
	}
	if digits == 0 || len(s) < from+digits {
		return s[:1], 1, nil
	}
	n, parseErr := strconv.ParseUint(s[from:from+digits], base, 32)
	wide := s[1] == 'u' || s[1] == 'U'
	switch {
	case parseErr != nil, !wide && n > 0xff, wide && !utf8.ValidRune(rune(n)):
		return s[:1], 1, nil
	case n == 0:
		return "", 0, fmt.Errorf("%s: no argument can hold a zero byte", s[:from+digits])
	case wide:
		return string(rune(n)), from + digits, nil
	}
	return string([]byte{byte(n)}), from + digits, nil
}

// QuoteWords joins words so that systemd splits them again at the same places.
// Specifiers and variables in them are left to systemd: see Literal.
func QuoteWords(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return strings.Join(quoted, " ")
}

// quote puts a word into quotes if it needs them.
func quote(word string) string {
	needs := word == "" || word == ";" || strings.ContainsAny(word, blanks+`"'\`) ||
		strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f })
	if !needs {
		return word
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(word) {
		switch c := word[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Literal protects a word of a command line from systemd's specifiers and
// variables.
func Literal(word string) string {
	return strings.ReplaceAll(literalPath(word), "$", "$$")
}

// literalPath protects a value that is not a command line from specifiers.
func literalPath(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// parseBool reads a boolean as systemd does.
func parseBool(e entry) (bool, error) {
	switch strings.ToLower(e.value) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, e.errorf("invalid %s=%s: want true or false", e.key, e.value)
}
