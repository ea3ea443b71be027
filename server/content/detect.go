package content

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// headBytes is how much of a file is looked at but for the directories of containers.
const headBytes = 64 << 10

// mimetype's limit is one for the whole process, and it must be the number of bytes it is handed.
func init() { mimetype.SetLimit(headBytes) }

// finding is what a content turned out to be.
type finding struct {
	*kind
	broken string // why it is of no use, as the end of a sentence, or ""
}

// detect says what the content is. The name decides only between kinds of text, and between what a password hides.
func detect(src *source, named []*kind) finding {
	head := src.bytes(0, headBytes)
	body, isText := decodeText(head, src.size > int64(len(head)))
	root := markup(body)

	switch {
	case isShebang(body):
		return finding{kind: scriptKind(head, named)}
	case root != nil && root.is(html|script):
		return finding{kind: root}
	case bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("%PDF-")):
		return finding{kind: kindPDF}
	case bytes.HasPrefix(body, []byte(`{\rtf`)):
		return finding{kind: kindRTF}
	case bytes.HasPrefix(body, []byte("%!PS")):
		return finding{kind: kindPS}
	case isText:
		return finding{kind: textKind(body, root, named)}
	}
	return detectBinary(src, head, named)
}

// scriptKind trusts the name of a script on its language, and its first line next.
func scriptKind(head []byte, named []*kind) *kind {
	for _, k := range named {
		if k.is(script) {
			return k
		}
	}
	if k := askMimetype(head); k.is(script) {
		return k
	}
	return kindShell
}

// textKind lets the name decide what a text is, unless its root element is <svg>.
func textKind(body []byte, root *kind, named []*kind) *kind {
	if root == kindSVG {
		return kindSVG
	}
	for _, k := range named {
		if k.is(text) {
			return k
		}
		if k == kindPDF && latePDF(body) {
			return kindPDF
		}
	}
	if root != nil {
		return root
	}
	return kindText
}

// latestPDF is where readers stop to look for the header of a PDF: it is in the first 1,024 bytes.
const latestPDF = 1024

// latePDF tells a PDF with something before its header, if it is nothing else.
func latePDF(head []byte) bool {
	return bytes.Contains(head[:min(len(head), latestPDF)], []byte("%PDF-"))
}

// withoutLatePDF is head for mimetype, which takes everything for a PDF that latePDF does, programs among it, before it
// looks for much else. What takes the header's place has the same sum, on which a tar header's checksum depends.
func withoutLatePDF(head []byte) []byte {
	if !latePDF(head) {
		return head
	}
	start := bytes.ReplaceAll(head[:min(len(head), latestPDF)], []byte("%PDF-"), []byte("%PFD-"))
	return append(start, head[len(start):]...)
}

func detectBinary(src *source, head []byte, named []*kind) finding {
	starts := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case starts("MZ"):
		return finding{kind: kindPE}
	case starts("PK\x03\x04"), starts("PK\x05\x06"), starts("PK\x07\x08"):
		return zipKind(src)
	case starts(oleMagic):
		return finding{kind: oleKind(src, named)}
	case starts("PAR1"), starts("PARE"):
		return parquetKind(src)
	case starts("\xCA\xFE\xBA\xBE"):
		return finding{kind: classOrMachO(head)}
	case starts("GIF8") && !plausibleGIF(head):
		return finding{kind: kindUnknown}
	}
	for _, s := range signatures {
		if starts(s.magic) {
			return finding{kind: byMIME[s.mime]}
		}
	}
	switch k := askMimetype(head); {
	case k == kindHEIF && holdsAVIF(head):
		return finding{kind: kindAVIF}
	case k != kindUnknown && !k.textual():
		return finding{kind: k}
	case latePDF(head):
		return finding{kind: kindPDF}
	}
	return finding{kind: kindUnknown}
}

// signatures are the ones that mimetype does not know, and those of programs that it knows but would take for an archive
// or a film if enough in them looked like one.
var signatures = []struct{ magic, mime string }{
	{"\xFE\xED\xFA\xCE", "application/x-mach-binary"},
	{"\xFE\xED\xFA\xCF", "application/x-mach-binary"},
	{"\xCE\xFA\xED\xFE", "application/x-mach-binary"},
	{"\xCF\xFA\xED\xFE", "application/x-mach-binary"},
	{"\xCA\xFE\xBA\xBF", "application/x-mach-binary"}, // for several machines, with 64-bit offsets
	{"\x00asm", "application/wasm"},
	{"L\x00\x00\x00\x01\x14\x02\x00", "application/x-ms-shortcut"},
	{"\xED\xAB\xEE\xDB", "application/x-rpm"},
	{"dex\n0", "application/vnd.android.dex"},
	{"Obj\x01", "application/vnd.apache.avro"},
	{"ARROW1\x00\x00", "application/vnd.apache.arrow.file"},
	{"ORC", "application/vnd.apache.orc"},
	{"II+\x00", "image/tiff"}, // BigTIFF
	{"MM\x00+", "image/tiff"},
}

// classOrMachO tells a Java class, whose fifth to eighth byte are its version, from 45 on, from a Mach-O file for several
// machines, where they are the number of those.
func classOrMachO(head []byte) *kind {
	const magic, oldestClass = 4, 45
	if len(head) >= magic+4 && binary.BigEndian.Uint32(head[magic:]) < oldestClass {
		return kindMachO
	}
	return kindClass
}

// askMimetype is mimetype's answer as far as the table has it, but for PDFs. It has panicked on hostile input before:
// that is unknown content, and no reason to fall over.
func askMimetype(head []byte) (k *kind) {
	defer func() {
		if recover() != nil {
			k = kindUnknown
		}
	}()
	for m := mimetype.Detect(withoutLatePDF(head)); m != nil; m = m.Parent() {
		mime, _, _ := strings.Cut(m.String(), ";")
		if k := byMIME[strings.ToLower(mime)]; k != nil {
			return k
		}
	}
	return kindUnknown
}

// holdsAVIF looks for AVIF among the brands that a HEIF file says it is compatible with: many writers put "mif1" first,
// which says no more than that it is a picture (AVIF, section 6.2; ISO/IEC 14496-12, section 4.3).
func holdsAVIF(head []byte) bool {
	const compatible, brandLen = 16, 4 // after the box's length and type, the first brand and its version
	if len(head) < compatible {
		return false
	}
	end := min(int64(len(head)), int64(binary.BigEndian.Uint32(head)))
	for at := int64(compatible); at+brandLen <= end; at += brandLen {
		if brand := string(head[at : at+brandLen]); brand == "avif" || brand == "avis" {
			return true
		}
	}
	return false
}

// plausibleGIF wants a block where the first one must be (GIF89a, section 17 to 20): a script may start with "GIF89a"
// and go on in a comment.
func plausibleGIF(head []byte) bool {
	const header = 13
	if len(head) < header {
		return false
	}
	first := header
	if flags := head[10]; flags&0x80 != 0 {
		first += 3 << (flags&7 + 1)
	}
	return first >= len(head) || bytes.IndexByte([]byte("\x21\x2C\x3B"), head[first]) >= 0
}

// parquetKind wants the footer that the file's last bytes speak of: four of length, then the magic again.
func parquetKind(src *source) finding {
	const headAndTail = 12
	tail := src.bytes(max(0, src.size-8), 8)
	if src.size >= headAndTail {
		magic, length := string(tail[4:]), int64(binary.LittleEndian.Uint32(tail))
		if (magic == "PAR1" || magic == "PARE") && 0 < length && length <= src.size-headAndTail {
			return finding{kind: kindParquet}
		}
	}
	return finding{kindParquet, "its footer is missing, so part of the file is"}
}
