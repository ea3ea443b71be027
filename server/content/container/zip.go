package container

import (
	"bufio"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"strings"
)

const (
	// maxZIPEntries and maxZIPDirectory (in bytes) limit how much of a directory is read. The content of an archive
	// with a larger one is unknown.
	maxZIPEntries   = 10_000
	maxZIPDirectory = 4 << 20
)

// noZIP32 in a field of 32 bits means that the number is in a ZIP64 field.
const noZIP32 = 0xFFFFFFFF

var (
	errBroken = errors.New("broken ZIP directory")
	// ErrHuge means that a directory is too large to be read.
	ErrHuge = errors.New("ZIP directory too large to be read")
)

// ZIPEntry is an entry of the central directory.
type ZIPEntry struct {
	Name       string // in lower case, with / for \
	encrypted  bool
	method     uint16
	compressed int64 // bytes
	offset     int64 // of the local header
}

// WalkZIP reads the central directory in a stream, and calls visit with each entry.
func WalkZIP(src *Source, visit func(*ZIPEntry)) error {
	entries, start, end, err := findDirectory(src)
	if err != nil {
		return err
	}
	if entries > maxZIPEntries || end-start > maxZIPDirectory {
		return ErrHuge
	}
	r := bufio.NewReader(io.NewSectionReader(src, start, end-start))
	for seen := uint64(0); ; seen++ {
		entry, err := readZIPEntry(r)
		switch {
		case err == io.EOF && seen&0xFFFF == entries&0xFFFF:
			return nil
		case err != nil:
			return errBroken
		case seen == maxZIPEntries:
			return ErrHuge
		}
		visit(&entry)
	}
}

// findDirectory reads the end of central directory record, or the ZIP64 one (APPNOTE.TXT, sections 4.3.14 to 4.3.16),
// and returns the number of entries and the range of bytes that they are in.
func findDirectory(src *Source) (entries uint64, start, end int64, err error) {
	record, at := findEndRecord(src)
	if record == nil {
		return 0, 0, 0, errBroken
	}
	le := binary.LittleEndian
	entries = uint64(le.Uint16(record[10:]))
	size, offset := uint64(le.Uint32(record[12:])), uint64(le.Uint32(record[16:]))
	if entries == 0xFFFF || size == noZIP32 || offset == noZIP32 {
		if locator := src.Bytes(max(0, at-20), 20); len(locator) == 20 && string(locator[:4]) == "PK\x06\x07" {
			at = int64(le.Uint64(locator[8:]))
			record = src.Bytes(max(0, at), 56)
			if at < 0 || len(record) < 56 || string(record[:4]) != "PK\x06\x06" {
				return 0, 0, 0, errBroken
			}
			entries, size, offset = le.Uint64(record[32:]), le.Uint64(record[40:]), le.Uint64(record[48:])
		}
	}
	if size > uint64(at) || offset > uint64(at)-size {
		return 0, 0, 0, errBroken
	}
	return entries, int64(offset), int64(offset + size), nil
}

// findEndRecord searches for the record backwards from the end: after it, there may only be a comment of up to 65,535
// bytes.
func findEndRecord(src *Source) (record []byte, at int64) {
	const recordLen, maxComment = 22, 0xFFFF
	for _, n := range []int64{1024, recordLen + maxComment} {
		start := max(0, src.Size-n)
		tail := src.Bytes(start, n)
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

// readZIPEntry returns io.EOF where the directory ends after an entry.
func readZIPEntry(r io.Reader) (ZIPEntry, error) {
	header, err := readZIPHeader(r)
	if err != nil {
		return ZIPEntry{}, err
	}
	return ZIPEntry{
		Name:       strings.ToLower(strings.ReplaceAll(string(header.name), `\`, "/")),
		encrypted:  header.flags&zipEncrypted != 0,
		method:     header.method,
		compressed: header.compressed,
		offset:     header.offset,
	}, nil
}

// zipHeader is a file header of the central directory (APPNOTE.TXT, section 4.3.12).
type zipHeader struct {
	flags, method    uint16
	date, time       uint16 // of the last modification, in the format of MS-DOS
	size, compressed int64  // bytes
	offset           int64  // of the local header
	name, extra      []byte
}

// Flags of an entry (APPNOTE.TXT, section 4.4.4).
const (
	zipEncrypted = 1 << 0
	zipUTF8      = 1 << 11
)

// readZIPHeader returns io.EOF where the directory ends after an entry.
func readZIPHeader(r io.Reader) (zipHeader, error) {
	var fixed [46]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return zipHeader{}, err
	}
	if string(fixed[:4]) != "PK\x01\x02" {
		return zipHeader{}, errBroken
	}
	le := binary.LittleEndian
	nameLen, extraLen, commentLen := int(le.Uint16(fixed[28:])), int(le.Uint16(fixed[30:])), int(le.Uint16(fixed[32:]))
	rest := make([]byte, nameLen+extraLen+commentLen)
	if _, err := io.ReadFull(r, rest); err != nil {
		return zipHeader{}, errBroken
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

// readZIP64 reads the numbers that did not fit into 32 bits from the extra field 1 (APPNOTE.TXT, section 4.5.3), which
// contains only those: the inflated size, the compressed size and the offset, in this order.
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

// extraFields returns an iterator over the extra fields of an entry (APPNOTE.TXT, section 4.5.1).
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

// Open returns a reader of up to limit inflated bytes of an entry.
func (e *ZIPEntry) Open(src *Source, limit int64) (io.Reader, error) {
	header := src.Bytes(e.offset, 30)
	if e.encrypted || len(header) < 30 || string(header[:4]) != "PK\x03\x04" {
		return nil, errBroken
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
	return nil, errBroken
}
