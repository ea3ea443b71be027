package charset

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// IsASCII reports whether s consists of ASCII.
func IsASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// IsUnsafe reports whether r ends a line, controls a terminal or reverses the reading direction.
func IsUnsafe(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || turnsDirection(r)
}

// turnsDirection reports whether r reverses the reading direction, as in "invoice_<U+202E>fdp.exe" (UAX #9, section 2:
// embeddings, overrides and isolates).
func turnsDirection(r rune) bool {
	return '\u202A' <= r && r <= '\u202E' || '\u2066' <= r && r <= '\u2069'
}

// WithoutBidi returns text without the characters that reverse the reading direction.
func WithoutBidi(text string) string {
	return strings.Map(func(r rune) rune {
		if turnsDirection(r) {
			return -1
		}
		return r
	}, text)
}
