package container

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// OLEMagic is the magic number of compound files.
const OLEMagic = "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"

const (
	oleEntryLen   = 128     // bytes
	maxOLEEntries = 8192    // of the directory; the entries that identify the type come early
	maxOLEStream  = 1 << 16 // bytes read of one stream
	maxOLERead    = 2 << 20 // bytes read of all streams
	maxMiniStream = 1 << 20 // bytes kept of the mini stream
	miniSize      = 64      // bytes of a mini stream sector
)

// OLE is a reader of a compound file (MS-CFB): sectors chained by a table, with a directory that is a tree.
type OLE struct {
	src        *Source
	header     []byte
	sectorSize int64      // bytes
	entries    []oleEntry // the root first, truncated if the directory is damaged or too large

	mini, miniTable []byte // the mini stream and its table, loaded with the first short stream
	read            int64  // bytes of streams read so far
}

// oleEntry is a directory entry (MS-CFB, section 2.6.1).
type oleEntry struct {
	name               string // in lower case: the format compares names case-insensitively
	left, right, child uint32
	class              [16]byte
	start              uint32 // the first sector of a stream
	size               int64  // of a stream, in bytes
}

// Children returns the entries directly below a storage, by name. They form a tree of siblings, each of which is
// visited once.
func (f *OLE) Children(storage uint32) map[string]uint32 {
	names := make(map[string]uint32)
	seen := make([]bool, len(f.entries))
	todo := []uint32{f.entries[storage].child}
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if int64(id) >= int64(len(f.entries)) || seen[id] {
			continue
		}
		seen[id] = true
		names[f.entries[id].name] = id
		todo = append(todo, f.entries[id].left, f.entries[id].right)
	}
	return names
}

// OpenOLE reads the directory up to its end or maxOLEEntries, which also ends circular chains. It returns nil if there
// is no directory.
func OpenOLE(src *Source) *OLE {
	header := src.Bytes(0, 512)
	if len(header) < 512 {
		return nil
	}
	shift := binary.LittleEndian.Uint16(header[30:])
	if shift != 9 && shift != 12 {
		return nil
	}
	f := &OLE{src: src, header: header, sectorSize: 1 << shift}
	for at, ok := uint32At(header, 48), true; ok && len(f.entries) < maxOLEEntries; at, ok = f.next(at) {
		for sector := f.sector(at); len(sector) >= oleEntryLen; sector = sector[oleEntryLen:] {
			f.entries = append(f.entries, f.parseEntry(sector))
		}
	}
	if len(f.entries) == 0 {
		return nil
	}
	return f
}

func (f *OLE) parseEntry(b []byte) oleEntry {
	le := binary.LittleEndian
	entry := oleEntry{
		left:  le.Uint32(b[68:]),
		right: le.Uint32(b[72:]),
		child: le.Uint32(b[76:]),
		class: [16]byte(b[80:96]),
		start: le.Uint32(b[116:]),
		size:  int64(le.Uint32(b[120:])), // the upper half is undefined in files of version 3, and 0 in any that is read
	}
	var name [32]uint16
	n := 0
	for n < len(name) && le.Uint16(b[2*n:]) != 0 {
		name[n] = le.Uint16(b[2*n:])
		n++
	}
	entry.name = strings.ToLower(string(utf16.Decode(name[:n])))
	return entry
}

func uint32At(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }

// stream reads a stream of up to maxOLEStream bytes. ok is false when the stream is longer, or incomplete.
func (f *OLE) stream(id uint32) (content []byte, ok bool) {
	content = f.streamStart(id, maxOLEStream)
	return content, int64(len(content)) == f.entries[id].size
}

// streamStart reads the first limit bytes of a stream, or fewer if it is incomplete. A short stream is in the mini
// stream, which belongs to the root, in small sectors with a separate table (MS-CFB, sections 2.4 and 2.6).
func (f *OLE) streamStart(id uint32, limit int64) []byte {
	e := f.entries[id]
	want := min(e.size, limit)
	if e.size >= int64(uint32At(f.header, 56)) {
		return f.chained(e.start, want)
	}
	if f.mini == nil {
		f.mini = f.chained(f.entries[0].start, min(f.entries[0].size, maxMiniStream))
		f.miniTable = f.chained(uint32At(f.header, 60), maxMiniStream/miniSize*4)
	}
	var out []byte
	for at := int64(e.start); int64(len(out)) < want; at = int64(uint32At(f.miniTable, int(at)*4)) {
		from, to := at*miniSize, min((at+1)*miniSize, int64(len(f.mini)))
		if from >= to {
			break
		}
		out = append(out, f.mini[from:to]...)
		if (at+1)*4 > int64(len(f.miniTable)) {
			break
		}
	}
	return out[:min(int64(len(out)), want)]
}

// chained reads the first n bytes of a chain of sectors, or fewer if the chain or maxOLERead ends first.
func (f *OLE) chained(start uint32, n int64) []byte {
	var out []byte
	for at, ok := start, true; ok && int64(len(out)) < n && f.read < maxOLERead; at, ok = f.next(at) {
		sector := f.sector(at)
		if len(sector) == 0 {
			break
		}
		f.read += int64(len(sector))
		out = append(out, sector...)
	}
	return out[:min(int64(len(out)), n)]
}

// sector returns the content of sector n, shorter or empty where the file ends.
func (f *OLE) sector(n uint32) []byte {
	return f.src.Bytes((int64(n)+1)*f.sectorSize, f.sectorSize)
}

// next returns the sector after sector n in its chain; ok is false when there is none, or none within the file.
func (f *OLE) next(n uint32) (uint32, bool) {
	perSector := uint32(f.sectorSize / 4)
	if int64(n) >= f.src.Size/f.sectorSize {
		return 0, false
	}
	table, ok := f.tableSector(n / perSector)
	if !ok {
		return 0, false
	}
	cell := f.src.Bytes((int64(table)+1)*f.sectorSize+int64(n%perSector)*4, 4)
	if len(cell) < 4 {
		return 0, false
	}
	next := uint32At(cell, 0)
	return next, int64(next) < f.src.Size/f.sectorSize
}

// tableSector returns the i-th sector of the allocation table: the header contains the first 109, a chain of further
// sectors the rest, each with the next one's number at its end.
func (f *OLE) tableSector(i uint32) (uint32, bool) {
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
	cell := f.src.Bytes((int64(at)+1)*f.sectorSize+int64(i)*4, 4)
	if len(cell) < 4 {
		return 0, false
	}
	return uint32At(cell, 0), true
}

// Class returns the class id of the root, which identifies the program that the file belongs to.
func (f *OLE) Class() [16]byte { return f.entries[0].class }
