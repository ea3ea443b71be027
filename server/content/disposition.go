package content

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Disposition returns the value of a Content-Disposition header (RFC 6266) for a file called name: kind is "inline" or
// "attachment", and anything else counts as "attachment". The name is in it twice: in ASCII, with "_" for characters
// that some client might misread, and complete as filename* (RFC 8187), which has precedence in clients that support
// it.
func Disposition(kind, name string) string {
	if kind != "inline" {
		kind = "attachment"
	}
	name = strings.ToValidUTF8(name, string(utf8.RuneError))
	return kind + `; filename="` + asciiName(name) + `"; filename*=UTF-8''` + percentEncode(name)
}

// asciiName replaces quotes, backslashes and percent signs too: clients disagree on what those mean inside quotes.
func asciiName(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(`"\%`, r) {
			return '_'
		}
		return r
	}, name)
}

// percentEncode encodes every byte that is not an attr-char of RFC 8187, section 3.2.1.
func percentEncode(name string) string {
	var b strings.Builder
	b.Grow(len(name))
	for _, c := range []byte(name) {
		if isAttrChar(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func isAttrChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$&+-.^_`|~", c) >= 0
}
