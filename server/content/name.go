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
	maxNameBytes = 255 // what the usual file systems take
	maxExtBytes  = 32  // with its dot; anything longer is no extension
)

// errNoName says that nothing was left of a file name that could be one.
var errNoName = errors.New("The file needs a name other than an empty one, \".\" or \"..\".")

// formEscapes are what browsers write for what would end a quoted name in a multipart header, and what it stands for
// (WHATWG HTML, "Multipart form data"). They escape no percent sign, so nothing else that looks escaped is.
var formEscapes = strings.NewReplacer("%22", `"`, "%0D", "\r", "%0d", "\r", "%0A", "\n", "%0a", "\n")

// FormName is the file name that a form means with filename=, which is not clean for that. It is decoded once: the words
// of RFC 2047 that .NET and Java write; the percent-encoding of some clients, where it can be nothing else; or what
// browsers escape. A name in filename* (RFC 8187) is no matter of this: once decoded, it is the name.
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

// decodeWords decodes a name that has encoded words in it (RFC 2047, section 2), and is not ok for any other, or where one
// of them cannot be decoded.
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
// escape, nothing is left that is not ASCII, and some of what is escaped is not, in valid UTF-8. Nobody gives such a name
// to a file.
func decodePercent(name string) (string, bool) {
	decoded, err := url.PathUnescape(name)
	return decoded, err == nil && charset.IsASCII(name) && !charset.IsASCII(decoded) && utf8.ValidString(decoded)
}

// fromOlderEncoding reads a name that is not UTF-8 in an encoding that its letters leave no doubt of; or as Shift-JIS, if
// all in it that is not ASCII stands together at least in twos, as Japanese does; and else as Windows-1252, in which letters
// with accents stand among others.
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

// inRuns reports whether no character outside of ASCII stands alone, and none is a half-width one, which Windows-1252 has its
// capitals for.
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
		if charset.IsUnsafe(r) {
			return -1
		}
		return r
	}, name)
}

// shorten cuts the stem of a name that is too long. A part of an NFC string is NFC, and the dot of the extension
// joins with nothing before it, so the result is NFC as well.
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

// extensions is the extension of a name, and the one before it where both say something, as in ".tar.gz" or ".xml.p7m".
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
