package content

import (
	"bytes"
	"strings"

	"attachd/server/content/charset"
	"attachd/server/content/container"
)

// minHole is the length of the shortest hole in a text, in NULs: holes are where a log was truncated while it was
// written, or in a table whose columns have a fixed width.
const minHole = 64

// likelyText reports whether a file is a text with holes, and returns it without them: its start or, where that is one
// hole, parts from a few places further on.
func likelyText(src *container.Source, head []byte) ([]byte, bool) {
	filled := withoutHoles(head)
	for part := int64(1); part <= 8 && len(filled) == 0 && src.Size > int64(len(head)); part++ {
		filled = withoutHoles(src.Bytes(src.Size*part/8-headBytes/4, headBytes/4))
	}
	r := charset.Read(filled, true)
	return bytes.ReplaceAll(r.Body, []byte{0}, nil), len(filled) > 0 && (r.Text || r.Likely)
}

// withoutHoles returns b without its runs of at least minHole NULs.
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

// isShebang reports whether a file is a script that names its interpreter. "#!AMR" starts a sound file and "#![" a Rust
// source.
func isShebang(b []byte) bool {
	return bytes.HasPrefix(b, []byte("#!")) && !bytes.HasPrefix(b, []byte("#!AMR")) && !bytes.HasPrefix(b, []byte("#!["))
}

// htmlTags are the tags that make a file an HTML page if it starts with one.
var htmlTags = map[string]bool{"html": true, "head": true, "body": true, "script": true, "iframe": true}

// markup returns the kind of a file by its first tag: HTML, XHTML, PHP, SVG, XML with a declaration, or nil when it is
// none of these. It skips white space, comments, processing instructions and a document type.
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

// rootKind returns the kind of a file by its root tag. After an XML declaration only <html> makes it a page. In XML
// both <html> and <svg> may have a namespace prefix.
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

// isPHP reports whether b begins with <?php or the short tags <? and <?=, none of which exist in XML.
func isPHP(b []byte) bool {
	if hasPrefixFold(b, "<?php") {
		return tagName(b[2:]) == "php"
	}
	return len(b) > 2 && b[0] == '<' && b[1] == '?' && strings.IndexByte("= \t\r\n", b[2]) >= 0
}

// tagName returns the XML name at the start of b, in lower case: "html" of "HTML lang=en>", "header" of "header>".
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

// after returns the bytes after the first end in b, or none.
func after(b []byte, end string) []byte {
	_, rest, _ := bytes.Cut(b, []byte(end))
	return rest
}

// afterDoctype skips a document type declaration and its internal subset in brackets, where quoted values and comments
// may contain anything.
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
