package content

import (
	"errors"
	"io"
	"mime"
	"net/url"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/unicode/norm"

	"attachd/server/content/charset"
)

const (
	maxNameBytes = 255 // the limit of the usual file systems
	maxExtBytes  = 32  // including the dot; anything longer is no extension
)

// errNoName means that no usable file name was left.
var errNoName = errors.New("The file needs a name other than an empty one, \".\" or \"..\".")

// formEscapes decodes the escapes that browsers write for characters which would end a quoted name in a multipart
// header (WHATWG HTML, "Multipart form data"). Browsers do not escape the percent sign, so nothing else is an escape.
var formEscapes = strings.NewReplacer("%22", `"`, "%0D", "\r", "%0d", "\r", "%0A", "\n", "%0a", "\n")

// FormName decodes the file name in the parameter filename= of a form; the result is not clean. It is decoded once: the
// encoded words of RFC 2047 that .NET and Java write; the percent-encoding of some clients, where it can be nothing
// else; or the escapes of browsers. A name in filename* (RFC 8187) needs none of this: once decoded, it is the name.
func FormName(escaped string) string {
	if !utf8.ValidString(escaped) {
		escaped = fromOlderEncoding(escaped)
	}
	if words, ok := decodeWords(escaped); ok {
		return words
	}
	if decoded, ok := decodePercent(escaped); ok {
		return decoded
	}
	return formEscapes.Replace(escaped)
}

// decodeWords decodes a name with encoded words (RFC 2047, section 2). ok is false for any other name, or where one of
// the words cannot be decoded.
func decodeWords(name string) (string, bool) {
	decoder := mime.WordDecoder{CharsetReader: func(charset string, r io.Reader) (io.Reader, error) {
		encoding, err := htmlindex.Get(charset)
		if err != nil {
			return nil, err
		}
		return encoding.NewDecoder().Reader(r), nil
	}}
	decoded, err := decoder.DecodeHeader(name)
	return decoded, err == nil && decoded != name && utf8.ValidString(decoded)
}

// decodePercent decodes a name that is percent-encoded as a whole (RFC 3986, section 2.1): each percent sign begins an
// escape, the rest is ASCII, and some of the escaped characters are not, in valid UTF-8. Real file names do not have
// this form.
func decodePercent(name string) (string, bool) {
	decoded, err := url.PathUnescape(name)
	return decoded, err == nil && charset.IsASCII(name) && !charset.IsASCII(decoded) && utf8.ValidString(decoded)
}

// fromOlderEncoding decodes a name that is not UTF-8: in an encoding that its letters leave no doubt of; else in
// Shift-JIS, if all characters outside of ASCII are in runs of at least two, as in Japanese; else in Windows-1252,
// where accented letters stand alone.
func fromOlderEncoding(name string) string {
	if old := charset.Script([]byte(name)); old != nil {
		if decoded, err := old.NewDecoder().String(name); err == nil {
			return decoded
		}
	}
	if decoded, err := japanese.ShiftJIS.NewDecoder().String(name); err == nil && !strings.ContainsRune(decoded, utf8.RuneError) && inRuns(decoded) {
		return decoded
	}
	decoded, err := charmap.Windows1252.NewDecoder().String(name)
	if err != nil {
		return name
	}
	return decoded
}

// inRuns reports whether no character outside of ASCII stands alone, and none is half-width: the bytes of those are the
// capitals of Windows-1252.
func inRuns(s string) bool {
	run := 0
	for _, r := range s + "." {
		switch {
		case '\uFF61' <= r && r <= '\uFF9F':
			return false
		case r >= utf8.RuneSelf:
			run++
		case run == 1:
			return false
		default:
			run = 0
		}
	}
	return true
}

// CleanName returns a file name that is safe to store and to display, made from a client's: its last path element for
// both / and \, in valid UTF-8, NFC, without control and bidi-override characters, and at most 255 bytes long with its
// extension kept. Any script, emoji and spaces are kept. Cleaning a clean name changes nothing.
//
// The error, a sentence for a person, means that no usable name is left.
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
		if charset.IsUnsafe(r) {
			return -1
		}
		return r
	}, name)
}

// shorten truncates the stem of a name that is too long. A prefix of an NFC string is NFC, and the dot of the extension
// combines with no preceding character, so the result is NFC as well.
func shorten(name string) string {
	if len(name) <= maxNameBytes {
		return name
	}
	ext := extensions(name)
	end := maxNameBytes - len(ext)
	for !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end] + ext
}

// extensions returns the extension of a name, together with the one before it if that is known too, as in ".tar.gz" or
// ".xml.p7m".
func extensions(name string) string {
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	if inner := path.Ext(stem); len(claims(stem)) > 0 && len(inner+ext) <= maxExtBytes {
		ext = inner + ext
	}
	if len(ext) > maxExtBytes {
		return ""
	}
	return ext
}
