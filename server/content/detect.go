package content

import (
	"bytes"
	"encoding/binary"
	"iter"
	"slices"
	"strings"

	"github.com/gabriel-vasile/mimetype"

	"attachd/server/content/charset"
	"attachd/server/content/container"
)

// headBytes is how many bytes at the start of a file are read; the directories of containers are read in addition.
const headBytes = 64 << 10

// The limit of mimetype is global, and must be the number of bytes that it is given.
func init() { mimetype.SetLimit(headBytes) }

// finding is the detected type of a content.
type finding struct {
	*kind
	broken string // why the file is unusable, as the end of a sentence, or ""
}

// detect returns the type of the content. The name decides only between types of text, between the types that
// encryption with a password hides, and between sound and film in one type of container.
func detect(src *container.Source, named []*kind) finding {
	head := src.Bytes(0, headBytes)
	read := charset.Read(head, src.Size > int64(len(head)))
	if found := detectText(src, read.Body, read.Text, named); found.kind != nil {
		return found
	}
	found := detectBinary(src, head, named)
	if found.kind == kindUnknown && saysText(named) {
		if body, ok := likelyText(src, head); ok {
			return detectText(src, body, true, named)
		}
	}
	found.kind = soundOrFilm(found.kind, named)
	return found
}

// detectText returns the type of content that starts as text, even if it is not text to its end, and an empty finding
// for anything else.
func detectText(src *container.Source, body []byte, isText bool, named []*kind) finding {
	root := markup(body)
	switch {
	case isShebang(body):
		return finding{kind: scriptKind(body, named)}
	case root != nil && root.is(html|script):
		return finding{kind: root}
	case bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("%PDF-")):
		return finding{kind: kindPDF}
	case bytes.HasPrefix(body, []byte(`{\rtf`)):
		return finding{kind: kindRTF}
	case bytes.HasPrefix(body, []byte("%!PS")):
		return finding{kind: kindPS}
	case !isText:
		return finding{}
	case officeInXML(body) != nil && container.MacrosInXML(src):
		return finding{kind: officeInXML(body).withMacros()}
	case openDocumentInXML(body) && container.BasicInXML(src):
		return finding{kind: kindODT.withMacros()}
	}
	return finding{kind: textKind(body, root, named)}
}

// saysText reports whether a name claims text that is not executed.
func saysText(named []*kind) bool {
	return slices.ContainsFunc(named, func(k *kind) bool { return k.is(text) && !k.is(html|script) })
}

// scriptKind returns a script's language: that of its name, else that of its first line.
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

// textKind returns the type of a text: SVG if its root element is <svg>, else mostly what the name claims.
func textKind(body []byte, root *kind, named []*kind) *kind {
	if root == kindSVG {
		return kindSVG
	}
	for _, k := range named {
		switch {
		case k == kindTypeScript && isTranslation(body):
			return kindXML
		case k.is(text):
			return k
		case k == kindPDF && latePDF(body):
			return kindPDF
		case k == kindPKCS7 && isPEM(body):
			return kindPKCS7
		case k.office() && !k.is(zipped) && k.family == officeFamily(body):
			return byMIME[k.mime]
		case k.office() && root == nil && isPagePart(body):
			return kindHTML
		case k.office() && isSavedPage(body):
			return kindSavedPage
		case k.family == kindExcel.family && tableKind(body) != nil:
			return tableKind(body)
		}
	}
	if root != nil {
		return root
	}
	return kindText
}

// isTranslation reports whether a text is a translation of Qt, which is XML with the extension of TypeScript programs.
func isTranslation(body []byte) bool {
	start := bytes.TrimLeft(body, " \t\r\n")
	return bytes.HasPrefix(start, []byte("<?xml")) || hasPrefixFold(start, "<!doctype ts>") || bytes.HasPrefix(start, []byte("<TS "))
}

// isPEM reports whether a text is an S/MIME container: in PEM (RFC 7468), in base64, or as a mail.
func isPEM(body []byte) bool {
	start := bytes.TrimLeft(body, " \t\r\n")
	for _, prefix := range []string{"-----begin ", "mi", "content-", "mime-version:"} {
		if hasPrefixFold(start, prefix) {
			return true
		}
	}
	return false
}

// tableKind returns the type of a table, which many programs write under the name of a workbook: there is a tab in one
// of the first lines, or each of them has the same number of semicolons or commas. It is nil for other text.
func tableKind(body []byte) *kind {
	const lookAt = 10 // lines
	lines := bytes.FieldsFunc(body, func(r rune) bool { return r == '\r' || r == '\n' })
	lines = lines[:min(len(lines), lookAt)]
	if len(lines) > 0 && bytes.IndexByte(bytes.Join(lines, nil), '\t') >= 0 {
		return kindTSV
	}
	for _, comma := range []string{";", ","} {
		even := func(line []byte) bool { return countUnquoted(line, comma[0]) == countUnquoted(lines[0], comma[0]) }
		if len(lines) > 1 && countUnquoted(lines[0], comma[0]) > 0 && !slices.ContainsFunc(lines, func(line []byte) bool { return !even(line) }) {
			return kindCSV
		}
	}
	return nil
}

// countUnquoted counts c in a line outside of quotes.
func countUnquoted(line []byte, c byte) (n int) {
	quoted := false
	for _, b := range line {
		switch {
		case b == '"':
			quoted = !quoted
		case b == c && !quoted:
			n++
		}
	}
	return n
}

// isPagePart reports whether a text begins with an element of an HTML page, though <html> is missing: some programs
// write pages in this form under the name of a document.
func isPagePart(body []byte) bool {
	start := bytes.TrimLeft(body, " \t\r\n")
	parts := []string{"table", "meta", "style", "link", "title", "div", "p", "span", "center", "font", "b", "h1", "h2", "h3", "br", "form"}
	return len(start) > 1 && start[0] == '<' && slices.Contains(parts, tagName(start[1:]))
}

// isSavedPage reports whether a text is a page with all its parts in one file (MHTML, RFC 2557), by its header.
func isSavedPage(body []byte) bool {
	header, _, _ := bytes.Cut(bytes.ReplaceAll(body[:min(len(body), 4<<10)], []byte("\r"), nil), []byte("\n\n"))
	header = bytes.ToLower(header)
	return bytes.Contains(header, []byte("mime-version:")) && bytes.Contains(header, []byte("multipart/related"))
}

// officeInXML returns the type of a document of Office 2003 or later that is one XML file, or nil.
func officeInXML(body []byte) *kind {
	start := body[:min(len(body), 4<<10)]
	for _, mark := range []struct {
		text string
		kind *kind
	}{
		{`progid="Excel.Sheet"`, kindExcel},
		{"urn:schemas-microsoft-com:office:spreadsheet", kindExcel},
		{`progid="Word.Document"`, kindWord},
		{"http://schemas.microsoft.com/office/word/2003/wordml", kindWord},
		{`progid="PowerPoint.Show"`, kindSlides},
		{"http://schemas.microsoft.com/office/2006/xmlPackage", kindWord},
	} {
		if bytes.Contains(start, []byte(mark.text)) {
			return mark.kind
		}
	}
	return nil
}

// officeFamily returns the family of an Office document in one XML file, which may lack the XML declaration, or "".
func officeFamily(body []byte) string {
	if k := officeInXML(body); k != nil && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("<")) {
		return k.family
	}
	return ""
}

// openDocumentInXML reports whether a text is an OpenDocument file that is one XML file (part 3, section 2.2).
func openDocumentInXML(body []byte) bool {
	return bytes.Contains(body[:min(len(body), 4<<10)], []byte("urn:oasis:names:tc:opendocument:xmlns:office:"))
}

// soundOrFilm returns the type of a media container: that for sound only, if the name claims it.
func soundOrFilm(found *kind, named []*kind) *kind {
	for _, container := range [][]string{
		{"video/mp4", "video/3gpp", "video/3gpp2", "video/quicktime", "audio/mp4"},
		{"video/webm", "video/matroska", "audio/webm"},
		{"video/matroska", "video/webm", "audio/matroska"},
		{"video/x-ms-asf", "audio/x-ms-wma"},
		{"application/ogg", "video/ogg", "audio/ogg"},
	} {
		sound := byMIME[container[len(container)-1]]
		if len(named) > 0 && named[0] == sound && slices.Contains(container, found.mime) {
			return sound
		}
	}
	return found
}

// latestPDF is how many bytes from the start readers search for the header of a PDF.
const latestPDF = 1024

// latePDF reports whether there is the header of a PDF, perhaps after other bytes. Such a file is a PDF if it is
// nothing else.
func latePDF(head []byte) bool {
	return bytes.Contains(head[:min(len(head), latestPDF)], []byte("%PDF-"))
}

// withoutLatePDF returns head for mimetype without the header that latePDF finds: mimetype takes any file with it for a
// PDF, programs among them, before it tests for most other types. The replacement has the same sum of bytes, since a
// tar header contains a checksum.
func withoutLatePDF(head []byte) []byte {
	if !latePDF(head) {
		return head
	}
	start := bytes.ReplaceAll(head[:min(len(head), latestPDF)], []byte("%PDF-"), []byte("%PFD-"))
	return append(start, head[len(start):]...)
}

func detectBinary(src *container.Source, head []byte, named []*kind) finding {
	starts := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case starts("MZ"):
		return finding{kind: kindPE}
	case starts("PK\x03\x04"), starts("PK\x05\x06"), starts("PK\x07\x08"):
		return zipKind(src)
	case starts(container.OLEMagic):
		return finding{kind: oleKind(src, named)}
	case starts("PAR1"), starts("PARE"):
		return parquetKind(src)
	case starts("\xCA\xFE\xBA\xBE"):
		return finding{kind: classOrMachO(head)}
	case starts("GIF8") && !plausibleGIF(head):
		return finding{kind: kindUnknown}
	case isPKCS7(head):
		return finding{kind: pkcs7Kind(named)}
	case starts("ID3"):
		return finding{kind: taggedSound(src, head)}
	}
	for _, s := range signatures {
		if starts(s.magic) {
			return finding{kind: byMIME[s.mime]}
		}
	}
	k := lateSignature(src, head)
	if k == nil {
		k = askMimetype(head)
	}
	switch {
	case k == kindM4A && string(head[8:12]) == "MSNV": // written by Sony cameras and telephones: film
		return finding{kind: kindMP4}
	case k == kindHEIF && holdsAVIF(head):
		return finding{kind: kindAVIF}
	case k == kindSQLite && isGeoPackage(head):
		return finding{kind: kindGeoPackage}
	case k != kindUnknown && !k.textual():
		return finding{kind: k}
	case latePDF(head):
		return finding{kind: kindPDF}
	}
	return finding{kind: kindUnknown}
}

// signatures are the magic numbers that mimetype does not know, and those of programs that it knows but takes for an
// archive or a film if enough in them looks like one.
var signatures = []struct{ magic, mime string }{
	{"\xFE\xED\xFA\xCE", "application/x-mach-binary"},
	{"\xFE\xED\xFA\xCF", "application/x-mach-binary"},
	{"\xCE\xFA\xED\xFE", "application/x-mach-binary"},
	{"\xCF\xFA\xED\xFE", "application/x-mach-binary"},
	{"\xCA\xFE\xBA\xBF", "application/x-mach-binary"}, // for several architectures, with 64-bit offsets
	{"\x00asm", "application/wasm"},
	{"L\x00\x00\x00\x01\x14\x02\x00", "application/x-ms-shortcut"},
	{"\xED\xAB\xEE\xDB", "application/x-rpm"},
	{"dex\n0", "application/vnd.android.dex"},
	{"Obj\x01", "application/vnd.apache.avro"},
	{"ARROW1\x00\x00", "application/vnd.apache.arrow.file"},
	{"FEA1", "application/x-feather"},
	{"ORC", "application/vnd.apache.orc"},
	{"caff\x00\x01\x00\x00", "audio/x-caf"},
	{"AC10", "image/vnd.dwg"}, // followed by the number of the version, since AutoCAD 13
	{"II+\x00", "image/tiff"}, // BigTIFF
	{"MM\x00+", "image/tiff"},
}

// classOrMachO distinguishes a Java class, whose bytes five to eight are its version, from 45 on, from a Mach-O file
// for several architectures, where they are the number of those.
func classOrMachO(head []byte) *kind {
	const magic, oldestClass = 4, 45
	if len(head) >= magic+4 && binary.BigEndian.Uint32(head[magic:]) < oldestClass {
		return kindMachO
	}
	return kindClass
}

// askMimetype returns the type that mimetype detects, if the table has it and it is no PDF. mimetype has panicked on
// hostile input before: the type is then unknown, and the server must not crash.
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

// holdsAVIF reports whether AVIF is among the compatible brands of a HEIF file: many writers put "mif1" first, which
// only means that it is a picture (AVIF, section 6.2).
func holdsAVIF(head []byte) bool {
	for brand := range brands(head) {
		if brand == "avif" || brand == "avis" {
			return true
		}
	}
	return false
}

// brands returns the compatible brands of a file in the ISO base media format, from its first box (ISO/IEC 14496-12,
// section 4.3); none for another file.
func brands(head []byte) iter.Seq[string] {
	const compatible, brandLen = 16, 4 // after the box's length and type, the first brand and its version
	return func(yield func(string) bool) {
		if len(head) < compatible || string(head[4:8]) != "ftyp" {
			return
		}
		end := min(int64(len(head)), int64(binary.BigEndian.Uint32(head)))
		for at := int64(compatible); at+brandLen <= end; at += brandLen {
			if !yield(string(head[at : at+brandLen])) {
				return
			}
		}
	}
}

// plausibleGIF requires a block where the first one must be (GIF89a, section 17 to 20): a script may start with
// "GIF89a" and continue in a comment.
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

// parquetKind requires the footer that the last bytes of the file announce: four of length, then the magic number
// again.
func parquetKind(src *container.Source) finding {
	const headAndTail = 12
	tail := src.Bytes(max(0, src.Size-8), 8)
	if src.Size >= headAndTail {
		magic, length := string(tail[4:]), int64(binary.LittleEndian.Uint32(tail))
		if (magic == "PAR1" || magic == "PARE") && 0 < length && length <= src.Size-headAndTail {
			return finding{kind: kindParquet}
		}
	}
	return finding{kindParquet, "its footer is missing, so part of the file is"}
}
