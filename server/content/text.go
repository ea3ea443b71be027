package content

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// reading is the start of a file, read as text.
type reading struct {
	body   []byte // as UTF-8 without a byte order mark, or as it is in an older encoding
	text   bool   // it is text, whatever its name says
	likely bool   // it is text if its name says so: most of it is, but it has NULs or many control characters
}

// readText reads the start of a file: UTF-8, UTF-16, or some older encoding such as Latin-1 or Shift-JIS. cut says that
// the file goes on after b.
//
// Text has no NUL. In valid UTF-8 a tenth may be control characters (old logs and odd separators), and in anything else
// a hundredth, or a tenth if they are always the same two: compressed bytes have a tenth of them, but of all kinds.
func readText(b []byte, cut bool) reading {
	if order := utf16Order(b); order != nil {
		if r := readUTF16(b, order, cut); r.text || r.likely || utf16Marked(b) {
			return r
		}
	}
	b = bytes.TrimPrefix(b, []byte("\xEF\xBB\xBF"))
	if !cut {
		b = bytes.TrimSuffix(b, []byte("\x1A")) // which ends a file of DOS
	}
	var count characters
	for _, c := range b {
		count.add(rune(c))
	}
	valid := validUTF8(b, cut)
	few := count.fewControls() || count.kinds() <= 2 && count.controls*10 <= len(b)
	return reading{
		body:   b,
		text:   count.nulls == 0 && (few || valid && count.controls*10 <= len(b)),
		likely: count.mostlyText(valid),
	}
}

// characters counts what tells text from other content.
type characters struct {
	all, controls, nulls int
	seen                 uint32 // which control characters there were, a bit each
}

func (c *characters) add(r rune) {
	c.all++
	switch {
	case r == 0:
		c.nulls++
	case isControl(r):
		c.controls++
		c.seen |= 1 << r
	}
}

// kinds is the number of different control characters.
func (c *characters) kinds() int { return bits.OnesCount32(c.seen) }

// fewControls tells text from compressed bytes and other data, unless the encoding has told it already.
func (c *characters) fewControls() bool { return c.controls*100 <= c.all }

// mostlyText wants more letters than NULs and control characters. Where the encoding does not say that it is text, there
// may be a few different control characters at most: separators, but not noise. Where NULs are all that is no text, they
// fill columns, and may be many more.
func (c *characters) mostlyText(valid bool) bool {
	const separators, widest = 6, 64
	if valid && c.controls == 0 && c.nulls < c.all {
		return c.nulls <= widest*(c.all-c.nulls)
	}
	return 2*(c.controls+c.nulls) < c.all && (valid || c.kinds() <= separators)
}

// minHole is the number of NULs in a row from which on they are a hole in a text: what a log has where it was cut while
// it was written, or a table whose columns have a fixed width.
const minHole = 64

// likelyText tells a text with holes: from its start, or where that is one hole, from a few places further on.
func likelyText(src *source, head []byte) ([]byte, bool) {
	filled := withoutHoles(head)
	for part := int64(1); part <= 8 && len(filled) == 0 && src.size > int64(len(head)); part++ {
		filled = withoutHoles(src.bytes(src.size*part/8-headBytes/4, headBytes/4))
	}
	r := readText(filled, true)
	return bytes.ReplaceAll(r.body, []byte{0}, nil), len(filled) > 0 && (r.text || r.likely)
}

// withoutHoles is b without its runs of at least minHole NULs.
func withoutHoles(b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		n := bytes.IndexByte(b, 0)
		if n < 0 {
			return append(out, b...)
		}
		out, b = append(out, b[:n]...), b[n:]
		rest := bytes.TrimLeft(b, "\x00")
		if run := len(b) - len(rest); run < minHole {
			out = append(out, b[:run]...)
		}
		b = rest
	}
	return out
}

// isControl tells the characters that text does not have (WHATWG MIME Sniffing, "binary data byte").
func isControl(r rune) bool {
	return r < 0x09 || r == 0x0B || 0x0E <= r && r <= 0x1A || 0x1C <= r && r <= 0x1F
}

// validUTF8 forgives a last character that was cut in two.
func validUTF8(b []byte, cut bool) bool {
	if !cut {
		return utf8.Valid(b)
	}
	for n := 0; n < utf8.UTFMax && n <= len(b); n++ {
		if utf8.Valid(b[:len(b)-n]) {
			return true
		}
	}
	return false
}

// utf16Order tells the byte order of UTF-16, from its mark or else from where the zero byte of its first, ASCII
// character stands; it is nil for anything else.
func utf16Order(b []byte) binary.ByteOrder {
	switch {
	case len(b) < 2:
		return nil
	case b[0] == 0xFF && b[1] == 0xFE, b[0] != 0 && b[1] == 0:
		return binary.LittleEndian
	case b[0] == 0xFE && b[1] == 0xFF, b[0] == 0 && b[1] != 0:
		return binary.BigEndian
	}
	return nil
}

// readUTF16 holds the file to being UTF-16 throughout: a good deal of binary content has a zero for its second byte.
func readUTF16(b []byte, order binary.ByteOrder, cut bool) reading {
	if len(b)%2 != 0 && !cut {
		return reading{body: b}
	}
	out := make([]byte, 0, len(b))
	var count characters
	for i := 0; i+1 < len(b); i += 2 {
		r := rune(order.Uint16(b[i:]))
		if utf16.IsSurrogate(r) {
			if i+3 >= len(b) {
				if !cut {
					return reading{body: b}
				}
				break
			}
			i += 2
			r = utf16.DecodeRune(r, rune(order.Uint16(b[i:])))
			if r == utf8.RuneError {
				return reading{body: b}
			}
		}
		count.add(r)
		if r != '\uFEFF' {
			out = utf8.AppendRune(out, r)
		}
	}
	if count.nulls == 0 && count.fewControls() {
		return reading{body: out, text: true, likely: true}
	}
	return reading{body: out, likely: utf16Marked(b) && count.mostlyText(count.controls == 0)} // without its mark, it may be anything
}

func utf16Marked(b []byte) bool {
	return bytes.HasPrefix(b, []byte("\xFF\xFE")) || bytes.HasPrefix(b, []byte("\xFE\xFF"))
}

// isShebang tells a script that names its interpreter. "#!AMR" starts a sound file and "#![" a Rust source.
func isShebang(b []byte) bool {
	return bytes.HasPrefix(b, []byte("#!")) && !bytes.HasPrefix(b, []byte("#!AMR")) && !bytes.HasPrefix(b, []byte("#!["))
}

// htmlTags are the tags that make a page of a file that starts with one.
var htmlTags = map[string]bool{"html": true, "head": true, "body": true, "script": true, "iframe": true}

// markup says what the start of a file is by its first tag: HTML, XHTML, PHP, SVG, XML with a declaration, or nil
// when it is none of these. It looks past white space, comments, processing instructions and a document type.
func markup(b []byte) *kind {
	declared := false
	for {
		b = bytes.TrimLeft(b, " \t\r\n\f")
		switch {
		case isPHP(b):
			return kindPHP
		case bytes.HasPrefix(b, []byte("<?")):
			declared = declared || tagName(b[2:]) == "xml"
			b = after(b, "?>")
		case bytes.HasPrefix(b, []byte("<!--")):
			b = after(b, "-->")
		case hasPrefixFold(b, "<!doctype"):
			if tagName(bytes.TrimLeft(b[len("<!doctype"):], " \t\r\n\f")) == "html" {
				return htmlOrXHTML(declared)
			}
			b = afterDoctype(b)
		default:
			return rootKind(b, declared)
		}
	}
}

// rootKind says what the first tag makes of a file. After an XML declaration only <html> makes a page of it. In XML
// both <html> and <svg> may carry a namespace prefix.
func rootKind(b []byte, declared bool) *kind {
	if bytes.HasPrefix(b, []byte("<")) {
		tag := tagName(b[1:])
		local := tag[strings.LastIndexByte(tag, ':')+1:]
		switch {
		case local == "svg":
			return kindSVG
		case !declared && htmlTags[tag]:
			return kindHTML
		case local == "html":
			return kindXHTML
		}
	}
	if declared {
		return kindXML
	}
	return nil
}

func htmlOrXHTML(declared bool) *kind {
	if declared {
		return kindXHTML
	}
	return kindHTML
}

// isPHP tells <?php and the short tags <? and <?=, none of which XML has.
func isPHP(b []byte) bool {
	if hasPrefixFold(b, "<?php") {
		return tagName(b[2:]) == "php"
	}
	return len(b) > 2 && b[0] == '<' && b[1] == '?' && strings.IndexByte("= \t\r\n", b[2]) >= 0
}

// tagName is the XML name at the start of b, in lower case: "html" of "HTML lang=en>", "header" of "header>".
func tagName(b []byte) string {
	const longest = 100
	n := 0
	for n < len(b) && n < longest && isNameByte(b[n]) {
		n++
	}
	return strings.ToLower(string(b[:n]))
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= 0x80 || strings.IndexByte("-_.:", c) >= 0
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && strings.EqualFold(string(b[:len(prefix)]), prefix)
}

// after is what follows the first end in b, or nothing.
func after(b []byte, end string) []byte {
	_, rest, _ := bytes.Cut(b, []byte(end))
	return rest
}

// afterDoctype skips a document type declaration with what it may declare between brackets, where quoted values and
// comments may hold anything.
func afterDoctype(b []byte) []byte {
	brackets := 0
	for len(b) > 0 {
		c := b[0]
		switch {
		case bytes.HasPrefix(b, []byte("<!--")):
			b = after(b, "-->")
			continue
		case c == '"' || c == '\'':
			b = after(b[1:], string(c))
			continue
		case c == '[':
			brackets++
		case c == ']':
			brackets--
		case c == '>' && brackets <= 0:
			return b[1:]
		}
		b = b[1:]
	}
	return nil
}
