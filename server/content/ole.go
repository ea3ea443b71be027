package content

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

const (
	oleEntryLen   = 128 // bytes
	oleMagic      = "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"
	maxOLEEntries = 8192 // of the directory; the ones that tell the kind come early
)

// oleNames are the names that tell something, in lower case: the format compares them without regard to case.
var oleNames = map[string]bool{
	"encryptedpackage": true, "worddocument": true, "workbook": true, "book": true, "powerpoint document": true,
	"__properties_version1.0": true, "__nameid_version1.0": true, "visiodocument": true, "quill": true,
	"macros": true, "_vba_project_cur": true,
}

// oleFile is a compound file (MS-CFB): sectors chained by a table, with a directory that is a tree.
type oleFile struct {
	src        *source
	header     []byte
	sectorSize int64 // bytes
}

// oleEntry is a directory entry (MS-CFB, section 2.6.1).
type oleEntry struct {
	name               string // one of oleNames, or ""
	left, right, child uint32
	installer          bool // has the class id of a Windows installer file
}

// oleKind says what a compound file is by the names directly below its root: what an embedded document is made of
// stands deeper down. Whatever cannot be read is an OLE file of no known kind.
func oleKind(src *source, named []*kind) *kind {
	entries := readOLE(src)
	if len(entries) == 0 {
		return kindOLE
	}
	if entries[0].installer {
		return kindMSI
	}
	names := childrenOfRoot(entries)
	document, workbook := kindWord, kindExcel
	if names["macros"] || names["_vba_project_cur"] {
		document, workbook = document.withMacros(), workbook.withMacros()
	}
	switch {
	case names["encryptedpackage"]:
		return protectedKind(named)
	case names["worddocument"]:
		return document
	case names["workbook"], names["book"]:
		return workbook
	case names["powerpoint document"]:
		return kindSlides
	case names["__properties_version1.0"], names["__nameid_version1.0"]:
		return kindOutlook
	case names["visiodocument"]:
		return kindVisio
	case names["quill"]:
		return kindPublisher
	}
	return kindOLE
}

// protectedKind takes the name's word for which OOXML document a password hides, since nothing else can tell.
func protectedKind(named []*kind) *kind {
	for _, k := range named {
		if k.officeXML() {
			return k
		}
	}
	return kindEncrypted
}

// childrenOfRoot walks the tree of siblings below the root, each entry at most once.
func childrenOfRoot(entries []oleEntry) map[string]bool {
	names := make(map[string]bool)
	seen := make([]bool, len(entries))
	todo := []uint32{entries[0].child}
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if int64(id) >= int64(len(entries)) || seen[id] {
			continue
		}
		seen[id] = true
		names[entries[id].name] = true
		todo = append(todo, entries[id].left, entries[id].right)
	}
	return names
}

// readOLE reads the directory, the root first, as far as it goes and up to maxOLEEntries. The bound also ends chains
// that run in circles.
func readOLE(src *source) []oleEntry {
	header := src.bytes(0, 512)
	if len(header) < 512 {
		return nil
	}
	shift := binary.LittleEndian.Uint16(header[30:])
	if shift != 9 && shift != 12 {
		return nil
	}
	f := oleFile{src, header, 1 << shift}
	var entries []oleEntry
	for at, ok := uint32At(header, 48), true; ok && len(entries) < maxOLEEntries; at, ok = f.next(at) {
		for sector := f.sector(at); len(sector) >= oleEntryLen; sector = sector[oleEntryLen:] {
			entries = append(entries, parseOLEEntry(sector))
		}
	}
	return entries
}

func parseOLEEntry(b []byte) oleEntry {
	le := binary.LittleEndian
	entry := oleEntry{
		left:      le.Uint32(b[68:]),
		right:     le.Uint32(b[72:]),
		child:     le.Uint32(b[76:]),
		installer: isInstaller(b[80:96]),
	}
	var name [32]uint16
	n := 0
	for n < len(name) && le.Uint16(b[2*n:]) != 0 {
		name[n] = le.Uint16(b[2*n:])
		n++
	}
	if s := strings.ToLower(string(utf16.Decode(name[:n]))); oleNames[s] {
		entry.name = s
	}
	return entry
}

// isInstaller tells the class ids of .msi, .mst and .msp files: {000C1084-0000-0000-C000-000000000046} and neighbours.
func isInstaller(class []byte) bool {
	const rest = "\x10\x0C\x00\x00\x00\x00\x00\xC0\x00\x00\x00\x00\x00\x00\x46"
	return (class[0] == 0x84 || class[0] == 0x82 || class[0] == 0x86) && string(class[1:]) == rest
}

func uint32At(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }

// sector is the content of sector n, shorter or empty where the file ends.
func (f *oleFile) sector(n uint32) []byte {
	return f.src.bytes((int64(n)+1)*f.sectorSize, f.sectorSize)
}

// next is the sector that follows sector n in its chain; not ok when none does, or none that the file has.
func (f *oleFile) next(n uint32) (uint32, bool) {
	perSector := uint32(f.sectorSize / 4)
	if int64(n) >= f.src.size/f.sectorSize {
		return 0, false
	}
	table, ok := f.tableSector(n / perSector)
	if !ok {
		return 0, false
	}
	cell := f.src.bytes((int64(table)+1)*f.sectorSize+int64(n%perSector)*4, 4)
	if len(cell) < 4 {
		return 0, false
	}
	next := uint32At(cell, 0)
	return next, int64(next) < f.src.size/f.sectorSize
}

// tableSector is where the i-th sector of the allocation table is: the header knows the first 109, a chain of
// further sectors the rest, each with the next one's number at its end.
func (f *oleFile) tableSector(i uint32) (uint32, bool) {
	const inHeader = 109
	if i < inHeader {
		return uint32At(f.header, 76+4*int(i)), true
	}
	i -= inHeader
	perSector := uint32(f.sectorSize/4 - 1)
	at := uint32At(f.header, 68)
	for ; i >= perSector; i -= perSector {
		sector := f.sector(at)
		if int64(len(sector)) < f.sectorSize {
			return 0, false
		}
		at = uint32At(sector, int(f.sectorSize)-4)
	}
	cell := f.src.bytes((int64(at)+1)*f.sectorSize+int64(i)*4, 4)
	if len(cell) < 4 {
		return 0, false
	}
	return uint32At(cell, 0), true
}
