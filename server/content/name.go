package content

import (
	"errors"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	maxNameBytes = 255 // what the usual file systems take
	maxExtBytes  = 32  // with its dot; anything longer is no extension
)

// errNoName says that nothing was left of a file name that could be one.
var errNoName = errors.New("The file needs a name other than an empty one, \".\" or \"..\".")

// formEscapes are what browsers write for what would end a quoted name in a multipart header, and what it stands for
// (WHATWG HTML, "Multipart form data"). They escape no percent sign, so nothing else that looks escaped is.
var formEscapes = strings.NewReplacer("%22", `"`, "%0D", "\r", "%0d", "\r", "%0A", "\n", "%0a", "\n")

// FormName is the file name that a form means with filename=, which is not clean for that. A name in filename* (RFC
// 8187) is no matter of this: once decoded, it is the name.
func FormName(escaped string) string { return formEscapes.Replace(escaped) }

// CleanName makes a file name that is safe to store and to show out of the one that a client sent: its last path
// element for both / and \, in valid UTF-8, NFC, without control and bidi-override characters, and at most 255 bytes
// long with its extension kept. Any script, emoji and spaces survive. Cleaning a clean name changes nothing.
//
// The error is a sentence for a person; it says that nothing is left that could be a name.
func CleanName(raw string) (string, error) {
	name := raw[strings.LastIndexAny(raw, `/\`)+1:]
	name = strings.ToValidUTF8(name, string(utf8.RuneError))
	name = shorten(norm.NFC.String(withoutUnsafe(name)))
	if strings.TrimSpace(name) == "" || name == "." || name == ".." {
		return "", errNoName
	}
	return name, nil
}

func withoutUnsafe(name string) string {
	return strings.Map(func(r rune) rune {
		if unsafeRune(r) {
			return -1
		}
		return r
	}, name)
}

// unsafeRune tells the characters that end a line, do something to a terminal or turn the reading direction around.
func unsafeRune(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || turnsDirection(r)
}

// turnsDirection tells the characters that turn the reading direction around, as in "invoice_<U+202E>fdp.exe" (UAX #9,
// section 2: embeddings, overrides and isolates).
func turnsDirection(r rune) bool {
	return '\u202A' <= r && r <= '\u202E' || '\u2066' <= r && r <= '\u2069'
}

// WithoutBidi is text without the characters that turn the reading direction around.
func WithoutBidi(text string) string {
	return strings.Map(func(r rune) rune {
		if turnsDirection(r) {
			return -1
		}
		return r
	}, text)
}

// shorten cuts the stem of a name that is too long. A part of an NFC string is NFC, and the dot of the extension
// joins with nothing before it, so the result is NFC as well.
func shorten(name string) string {
	if len(name) <= maxNameBytes {
		return name
	}
	ext := path.Ext(name)
	if len(ext) > maxExtBytes {
		ext = ""
	}
	end := maxNameBytes - len(ext)
	for !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end] + ext
}
