package charset

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// Reading is the result of reading the start of a file as text.
type Reading struct {
	Body   []byte // in UTF-8 without a byte order mark, or unchanged in an older encoding
	Text   bool   // it is text, whatever its name is
	Likely bool   // it is text if its name claims so: most of it is, but it has NULs or many control characters
}

// Read reads the start of a file: UTF-8, UTF-16, or an older encoding such as Latin-1 or Shift-JIS. cut means that the
// file continues after b.
//
// Text has no NUL. In valid UTF-8 a tenth may be control characters (old logs and odd separators), and in anything else
// a hundredth, or a tenth if they are always the same two: compressed bytes have a tenth of them, but of all kinds.
func Read(b []byte, cut bool) Reading {
	if order := UTF16Order(b); order != nil {
		if r := readUTF16(b, order, cut); r.Text || r.Likely || utf16Marked(b) {
			return r
		}
	}
	b = bytes.TrimPrefix(b, []byte("\xEF\xBB\xBF"))
	if !cut {
		b = bytes.TrimSuffix(b, []byte("\x1A")) // the end-of-file character of DOS
	}
	count := countBytes(b)
	valid := validUTF8(b, cut)
	few := count.fewControls() || count.kinds() <= 2 && count.controls*10 <= len(b)
	return Reading{
		Body:   b,
		Text:   count.nulls == 0 && (few || valid && count.controls*10 <= len(b)),
		Likely: count.mostlyText(valid),
	}
}

// characters holds the counts that distinguish text from other content.
type characters struct {
	all, controls, nulls int
	seen                 uint32 // bit set of the control characters that occurred
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

// controlBits has, for each control character, the bit that it is in characters.seen, and 0 for other bytes.
var controlBits = func() (bits [256]uint32) {
	for c := rune(1); c < ' '; c++ {
		if isControl(c) {
			bits[c] = 1 << c
		}
	}
	return bits
}()

// countBytes counts bytes as characters of one byte, without a branch for each: in compressed bytes none can be predicted.
func countBytes(b []byte) characters {
	count := characters{all: len(b), nulls: bytes.Count(b, []byte{0})}
	for _, c := range b {
		bit := controlBits[c]
		count.seen |= bit
		count.controls += int((bit | -bit) >> 31)
	}
	return count
}

// kinds is the number of different control characters.
func (c *characters) kinds() int { return bits.OnesCount32(c.seen) }

// fewControls distinguishes text from compressed bytes and other data if the encoding does not prove that it is text.
func (c *characters) fewControls() bool { return c.controls*100 <= c.all }

// mostlyText requires more letters than NULs and control characters. Unless the encoding proves that it is text, there
// may be only a few different control characters: separators, but not noise. Where NULs are the only characters that
// are not text, they fill columns, and may be far more numerous.
func (c *characters) mostlyText(valid bool) bool {
	const separators, widest = 6, 64
	if valid && c.controls == 0 && c.nulls < c.all {
		return c.nulls <= widest*(c.all-c.nulls)
	}
	return 2*(c.controls+c.nulls) < c.all && (valid || c.kinds() <= separators)
}

// isControl reports whether text does not contain r (WHATWG MIME Sniffing, "binary data byte").
func isControl(r rune) bool {
	return r < 0x09 || r == 0x0B || 0x0E <= r && r <= 0x1A || 0x1C <= r && r <= 0x1F
}

// validUTF8 reports whether b is UTF-8; if cut, the last character may be incomplete.
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

// UTF16Order returns the byte order of UTF-16, by its byte order mark or else by the position of the zero byte in its
// first character, if that is ASCII; nil for anything else.
func UTF16Order(b []byte) binary.ByteOrder {
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

// readUTF16 requires all of b to be valid UTF-16: binary content often has zero as its second byte.
func readUTF16(b []byte, order binary.ByteOrder, cut bool) Reading {
	if len(b)%2 != 0 && !cut {
		return Reading{Body: b}
	}
	out := make([]byte, 0, len(b))
	var count characters
	for i := 0; i+1 < len(b); i += 2 {
		r := rune(order.Uint16(b[i:]))
		if utf16.IsSurrogate(r) {
			if i+3 >= len(b) {
				if !cut {
					return Reading{Body: b}
				}
				break
			}
			i += 2
			r = utf16.DecodeRune(r, rune(order.Uint16(b[i:])))
			if r == utf8.RuneError {
				return Reading{Body: b}
			}
		}
		count.add(r)
		if r != '\uFEFF' {
			out = utf8.AppendRune(out, r)
		}
	}
	if count.nulls == 0 && count.fewControls() {
		return Reading{Body: out, Text: true, Likely: true}
	}
	return Reading{Body: out, Likely: utf16Marked(b) && count.mostlyText(count.controls == 0)} // without a byte order mark, it may be binary content
}

func utf16Marked(b []byte) bool {
	return bytes.HasPrefix(b, []byte("\xFF\xFE")) || bytes.HasPrefix(b, []byte("\xFE\xFF"))
}
