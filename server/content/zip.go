package content

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"io"
	"iter"
	"path"
	"strings"
)

// What is looked at in a ZIP archive at the most. One with more in it is an archive whose content nobody has seen.
const (
	maxZIPEntries    = 10_000
	maxZIPDirectory  = 4 << 20   // bytes
	maxContentTypes  = 512 << 10 // bytes, inflated
	maxMimetypeEntry = 128       // bytes, inflated
	maxManifest      = 256 << 10 // bytes, inflated, of an OpenDocument file's
	maxProjects      = 8         // VBA projects in an OOXML document, which has one; with more there is code
	maxBasic         = 1 << 20   // bytes, inflated, of all modules of Basic in an OpenDocument file; with more there is code
	maxModules       = 128       // modules of Basic; with more there is code
)

// noZIP32 in a field of 32 bits says that the number is in a ZIP64 one.
const noZIP32 = 0xFFFFFFFF

var (
	errBrokenZIP = errors.New("broken ZIP directory")
	errHugeZIP   = errors.New("ZIP directory too large to look at")
)

// zipEntry is what tells of an entry what the archive is.
type zipEntry struct {
	name       string // with / for \, lower case
	encrypted  bool
	method     uint16
	compressed int64 // bytes
	offset     int64 // of the local header
}

// zipContents is what was noticed in a central directory.
type zipContents struct {
	contentTypes, mimetype *zipEntry
	openDocument           *zipEntry // the manifest of an OpenDocument file
	manifest, class        bool
	android, windowsApp    bool
	iOS, visualStudio      bool
	code                   bool // of an OpenDocument file, in a language other than Basic
	basic                  bool // there are modules of Basic
}

// zipKind says what a ZIP archive is by what is in it: only the directory is read, and of the entries only
// [Content_Types].xml or mimetype, which are there to say it.
func zipKind(src *source) finding {
	in, err := readZIP(src)
	switch {
	case err == errHugeZIP:
		return finding{kind: kindZIP}
	case err != nil:
		return finding{kindZIP, "its directory, which comes last, is missing or damaged, so part of the file may be"}
	case in.android:
		return finding{kind: kindAPK}
	case in.windowsApp:
		return finding{kind: kindMSIX}
	case in.iOS:
		return finding{kind: kindIPA}
	case in.visualStudio:
		return finding{kind: kindVSIX}
	case in.manifest && in.class:
		return finding{kind: kindJAR}
	}
	k := officeKind(src, in)
	if k == nil {
		k = declaredKind(src, in)
	}
	if k == nil {
		k = kindZIP
	}
	return finding{kind: k}
}

// officeKind finds the main part among the parts that are there, by their types in [Content_Types].xml (ECMA-376 part 2,
// section 7.2.3), and code among the others. A type that no part has says nothing.
func officeKind(src *source, in zipContents) *kind {
	if in.contentTypes == nil {
		return nil
	}
	r, err := in.contentTypes.open(src, maxContentTypes)
	if err != nil {
		return nil
	}
	types := readPartTypes(r)
	var main *kind
	code, projects := false, 0
	_ = walkZIP(src, func(e *zipEntry) { // it was walked before
		partType := types.of(e.name)
		k := mainPartKind(partType)
		switch {
		case k != nil && (main == nil || k.is(macros)):
			main = k
		case isMacroSheet(partType):
			code = true
		case isVBAProject(partType), path.Base(e.name) == "vbaproject.bin":
			projects++
			code = code || projects > maxProjects || projectHasCode(src, e)
		}
	})
	if main == nil {
		main = types.main
	}
	if main != nil && code {
		return main.withMacros()
	}
	return main
}

func isMacroSheet(partType string) bool {
	return strings.HasSuffix(strings.TrimSuffix(partType, "+xml"), "macrosheet")
}

func isVBAProject(partType string) bool { return strings.HasSuffix(partType, "vbaproject") }

// projectHasCode says whether there is code in the VBA project that is a part of an OOXML document: a compound file. One
// that cannot be read, or is larger than an empty one, has.
func projectHasCode(src *source, e *zipEntry) bool {
	r, err := e.open(src, maxVBA+1)
	if err != nil {
		return true
	}
	project, err := io.ReadAll(r)
	if err != nil || len(project) > maxVBA {
		return true
	}
	f := openOLE(&source{r: bytes.NewReader(project), size: int64(len(project))})
	return f == nil || f.hasCode(0)
}

// partTypes are the types of an OOXML document's parts, as far as they say what it is: of single parts by name, and of the
// others by extension.
type partTypes struct {
	overrides, defaults map[string]string
	main                *kind // what the first part is that is named as the main one, there or not
}

func (t *partTypes) of(name string) string {
	if override, ok := t.overrides[name]; ok {
		return override
	}
	return t.defaults[extension(name)]
}

// override keeps a type that says something, or keeps an extension from saying it.
func (t *partTypes) override(name, partType string) {
	k := mainPartKind(partType)
	if t.main == nil {
		t.main = k
	}
	if k != nil || isVBAProject(partType) || isMacroSheet(partType) || t.defaults[extension(name)] != "" {
		t.overrides[name] = partType
	}
}

func extension(name string) string { return strings.TrimPrefix(path.Ext(name), ".") }

// readPartTypes reads [Content_Types].xml as far as it can.
func readPartTypes(r io.Reader) partTypes {
	types := partTypes{overrides: map[string]string{}, defaults: map[string]string{}}
	buffered := bufio.NewReader(r)
	if mark, _ := buffered.Peek(2); utf16Order(mark) != nil {
		raw, _ := io.ReadAll(buffered)
		buffered = bufio.NewReader(bytes.NewReader(readText(raw, true).body))
	}
	for d := rawXML(buffered); ; {
		token, err := d.RawToken()
		if err != nil {
			return types
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch element.Name.Local {
		case "Override":
			attr := attributes(element)
			types.override(strings.TrimPrefix(attr["PartName"], "/"), attr["ContentType"])
		case "Default":
			attr := attributes(element)
			if partType := attr["ContentType"]; mainPartKind(partType) != nil || isVBAProject(partType) || isMacroSheet(partType) {
				types.defaults[attr["Extension"]] = partType
			}
		}
	}
}

// mainPartKind is the kind of document whose main part has the type partType, or nil: the document's own type and
// ".main+xml", but for the ".12" that the macro-enabled ones have, and for the word that Word's templates say twice.
func mainPartKind(partType string) *kind {
	document, ok := strings.CutSuffix(strings.TrimSuffix(partType, "+xml"), ".main")
	if !ok {
		return nil
	}
	document = strings.Replace(document, "macroenabledtemplate", "macroenabled", 1)
	if k := byMIME[document]; k != nil {
		return k
	}
	return byMIME[document+".12"]
}

// declaredKind is what the entry "mimetype" says: OpenDocument (part 2, section 3.3) and EPUB (OCF, section 4.3) have
// it first, but a repacked document may not.
func declaredKind(src *source, in zipContents) *kind {
	var declared string
	switch {
	case in.mimetype != nil:
		r, err := in.mimetype.open(src, maxMimetypeEntry)
		if err != nil {
			return nil
		}
		raw, _ := io.ReadAll(r)
		declared = string(raw)
	case in.openDocument != nil:
		declared = typeInManifest(src, in.openDocument)
	}
	k := byMIME[strings.ToLower(strings.TrimSpace(declared))]
	switch {
	case k == nil || !k.is(zipped):
		return nil
	case k.family == kindODT.family && (in.code || in.basic && basicHasCode(src)):
		return k.withMacros()
	}
	return k
}

// typeInManifest is the type that the manifest of an OpenDocument file has for the whole of it (part 2, section 4.3), which
// is all that tells it where "mimetype" was lost.
func typeInManifest(src *source, manifest *zipEntry) string {
	r, err := manifest.open(src, maxManifest)
	if err != nil {
		return ""
	}
	for d := rawXML(r); ; {
		token, err := d.RawToken()
		if err != nil {
			return ""
		}
		if element, ok := token.(xml.StartElement); ok && element.Name.Local == "file-entry" {
			if attr := attributes(element); attr["full-path"] == "/" {
				return attr["media-type"]
			}
		}
	}
}

// rawXML reads XML for its raw tokens, whatever encoding it says that it is in.
func rawXML(r io.Reader) *xml.Decoder {
	d := xml.NewDecoder(r)
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	return d
}

// attributes are those of an element, by their names without a prefix, with their values in lower case.
func attributes(element xml.StartElement) map[string]string {
	attr := map[string]string{}
	for _, a := range element.Attr {
		attr[a.Name.Local] = strings.ToLower(a.Value)
	}
	return attr
}

// readZIP notices what tells what the archive is.
func readZIP(src *source) (in zipContents, err error) {
	err = walkZIP(src, in.notice)
	return in, err
}

// walkZIP reads the central directory in a stream, entry by entry.
func walkZIP(src *source, visit func(*zipEntry)) error {
	entries, start, end, err := findDirectory(src)
	if err != nil {
		return err
	}
	if entries > maxZIPEntries || end-start > maxZIPDirectory {
		return errHugeZIP
	}
	r := bufio.NewReader(io.NewSectionReader(src, start, end-start))
	for seen := uint64(0); ; seen++ {
		entry, err := readZIPEntry(r)
		switch {
		case err == io.EOF && seen&0xFFFF == entries&0xFFFF:
			return nil
		case err != nil:
			return errBrokenZIP
		case seen == maxZIPEntries:
			return errHugeZIP
		}
		visit(&entry)
	}
}

// findDirectory reads the end of central directory record, or its ZIP64 one (APPNOTE.TXT, sections 4.3.14 to 4.3.16),
// and answers the number of entries and the bytes they stand in.
func findDirectory(src *source) (entries uint64, start, end int64, err error) {
	record, at := findEndRecord(src)
	if record == nil {
		return 0, 0, 0, errBrokenZIP
	}
	le := binary.LittleEndian
	entries = uint64(le.Uint16(record[10:]))
	size, offset := uint64(le.Uint32(record[12:])), uint64(le.Uint32(record[16:]))
	if entries == 0xFFFF || size == noZIP32 || offset == noZIP32 {
		if locator := src.bytes(max(0, at-20), 20); len(locator) == 20 && string(locator[:4]) == "PK\x06\x07" {
			at = int64(le.Uint64(locator[8:]))
			record = src.bytes(max(0, at), 56)
			if at < 0 || len(record) < 56 || string(record[:4]) != "PK\x06\x06" {
				return 0, 0, 0, errBrokenZIP
			}
			entries, size, offset = le.Uint64(record[32:]), le.Uint64(record[40:]), le.Uint64(record[48:])
		}
	}
	if size > uint64(at) || offset > uint64(at)-size {
		return 0, 0, 0, errBrokenZIP
	}
	return entries, int64(offset), int64(offset + size), nil
}

// findEndRecord looks for the record from the end on, where only a comment of up to 65,535 bytes may follow it.
func findEndRecord(src *source) (record []byte, at int64) {
	const recordLen, maxComment = 22, 0xFFFF
	for _, n := range []int64{1024, recordLen + maxComment} {
		start := max(0, src.size-n)
		tail := src.bytes(start, n)
		for i := len(tail) - recordLen; i >= 0; i-- {
			if string(tail[i:i+4]) != "PK\x05\x06" {
				continue
			}
			comment := int(binary.LittleEndian.Uint16(tail[i+20:]))
			if i+recordLen+comment <= len(tail) {
				return tail[i : i+recordLen], start + int64(i)
			}
		}
	}
	return nil, 0
}

// readZIPEntry answers io.EOF where the directory ends after an entry.
func readZIPEntry(r io.Reader) (zipEntry, error) {
	header, err := readZIPHeader(r)
	if err != nil {
		return zipEntry{}, err
	}
	return zipEntry{
		name:       strings.ToLower(strings.ReplaceAll(string(header.name), `\`, "/")),
		encrypted:  header.flags&zipEncrypted != 0,
		method:     header.method,
		compressed: header.compressed,
		offset:     header.offset,
	}, nil
}

// zipHeader is what a file header of the central directory says (APPNOTE.TXT, section 4.3.12).
type zipHeader struct {
	flags, method    uint16
	date, time       uint16 // of the last change, as MS-DOS writes them
	size, compressed int64  // bytes
	offset           int64  // of the local header
	name, extra      []byte
}

// Flags of an entry (APPNOTE.TXT, section 4.4.4).
const (
	zipEncrypted = 1 << 0
	zipUTF8      = 1 << 11
)

// readZIPHeader answers io.EOF where the directory ends after an entry.
func readZIPHeader(r io.Reader) (zipHeader, error) {
	var fixed [46]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return zipHeader{}, err
	}
	if string(fixed[:4]) != "PK\x01\x02" {
		return zipHeader{}, errBrokenZIP
	}
	le := binary.LittleEndian
	nameLen, extraLen, commentLen := int(le.Uint16(fixed[28:])), int(le.Uint16(fixed[30:])), int(le.Uint16(fixed[32:]))
	rest := make([]byte, nameLen+extraLen+commentLen)
	if _, err := io.ReadFull(r, rest); err != nil {
		return zipHeader{}, errBrokenZIP
	}
	h := zipHeader{
		flags:      le.Uint16(fixed[8:]),
		method:     le.Uint16(fixed[10:]),
		time:       le.Uint16(fixed[12:]),
		date:       le.Uint16(fixed[14:]),
		compressed: int64(le.Uint32(fixed[20:])),
		size:       int64(le.Uint32(fixed[24:])),
		offset:     int64(le.Uint32(fixed[42:])),
		name:       rest[:nameLen],
		extra:      rest[nameLen : nameLen+extraLen],
	}
	h.readZIP64()
	return h, nil
}

// readZIP64 takes what did not fit into 32 bits from the extra field 1 (APPNOTE.TXT, section 4.5.3), which has only
// those numbers: the inflated size, the compressed size and the offset, in this order.
func (h *zipHeader) readZIP64() {
	for id, numbers := range h.extraFields() {
		if id != 1 {
			continue
		}
		for _, field := range []*int64{&h.size, &h.compressed, &h.offset} {
			if *field == noZIP32 && len(numbers) >= 8 {
				*field = int64(binary.LittleEndian.Uint64(numbers))
				numbers = numbers[8:]
			}
		}
	}
}

// extraFields are what else is said of an entry (APPNOTE.TXT, section 4.5.1).
func (h *zipHeader) extraFields() iter.Seq2[uint16, []byte] {
	return func(yield func(id uint16, data []byte) bool) {
		le := binary.LittleEndian
		for extra := h.extra; len(extra) >= 4; {
			id, n := le.Uint16(extra), int(le.Uint16(extra[2:]))
			extra = extra[4:]
			if n > len(extra) || !yield(id, extra[:n]) {
				return
			}
			extra = extra[n:]
		}
	}
}

// notice keeps of an entry what tells the kind of the archive.
func (in *zipContents) notice(e *zipEntry) {
	switch {
	case e.name == "[content_types].xml":
		in.contentTypes = e
	case e.name == "mimetype":
		in.mimetype = e
	case e.name == "meta-inf/manifest.xml":
		in.openDocument = e
	case isBasicModule(e.name):
		in.basic = true
	case strings.HasPrefix(e.name, "scripts/") && !strings.HasSuffix(e.name, "/"):
		in.code = true
	case strings.HasPrefix(e.name, "payload/") && strings.HasSuffix(e.name, ".app/info.plist"):
		in.iOS = true
	case e.name == "extension.vsixmanifest":
		in.visualStudio = true
	case e.name == "meta-inf/manifest.mf":
		in.manifest = true
	case e.name == "androidmanifest.xml":
		in.android = true
	case e.name == "appxmanifest.xml", e.name == "appxmetadata/appxbundlemanifest.xml":
		in.windowsApp = true
	case strings.HasSuffix(e.name, ".class"):
		in.class = true
	}
}

// open reads up to limit inflated bytes of an entry.
func (e *zipEntry) open(src *source, limit int64) (io.Reader, error) {
	header := src.bytes(e.offset, 30)
	if e.encrypted || len(header) < 30 || string(header[:4]) != "PK\x03\x04" {
		return nil, errBrokenZIP
	}
	le := binary.LittleEndian
	data := e.offset + 30 + int64(le.Uint16(header[26:])) + int64(le.Uint16(header[28:]))
	r := io.NewSectionReader(src, data, e.compressed)
	switch e.method {
	case 0:
		return io.LimitReader(r, limit), nil
	case 8:
		return io.LimitReader(flate.NewReader(r), limit), nil
	}
	return nil, errBrokenZIP
}
